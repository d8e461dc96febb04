package ha

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/log"
)

// checker looks at everything that a simulation does: see DESIGN, "The simulator".
type checker struct {
	c      *simCluster
	faults []string

	canon  []log.Entry          // the one log, as the first member that applied a record saw it
	hashes []uint64             // the state machine's hash after each record
	where  []uint64             // the index of each value, counted from beforeValues; 0: none yet
	leads  map[uint64]uint64    // who has led, by term
	epochs map[uint64]log.Epoch // as started
	ended  map[uint64]error     // values with a definite error
	sure   []uint64             // the value of each record that was acked, 0: it was not

	room [8]byte // for a value

	lastAcked uint64 // the latest value acked
	highest   uint64 // the last record that was acked, or read behind a barrier
	acks      int
	reads     int
	answers   int                // to callers
	unread    int                // reads that nobody answered
	newest    fence.Token        // of the latest OnActive
	lives     map[uint64]simLife // that was active, by epoch
	fenced    map[string]uint64  // the last epoch in which an OnFence has kept a member out
	tenures   int
	snapshots int // installed
	adopted   int // checkpoints of leaders, by arbiters that have cut their log
}

func (k *checker) init(c *simCluster) {
	*k = checker{
		c: c, leads: map[uint64]uint64{}, epochs: map[uint64]log.Epoch{}, ended: map[uint64]error{}, lives: map[uint64]simLife{}, fenced: map[string]uint64{},
	}
}

func (k *checker) fail(format string, args ...any) {
	if len(k.faults) < 10 {
		k.faults = append(k.faults, fmt.Sprintf("at %v: ", k.c.w.Now())+fmt.Sprintf(format, args...))
	}
}

// applied sees a record that a member is about to apply.
func (k *checker) applied(m *simMember, e log.Entry) {
	if len(k.faults) > 0 {
		return // what follows a fault says nothing
	}
	if e.Index != m.sm.last+1 {
		k.fail("%s applies record %d after %d (G6)", m.name, e.Index, m.sm.last)
		return
	}
	v := valueOf(e)
	if tokenOf(e) != e.Epoch {
		k.fail("value %d was appended with a token of epoch %d and is record %d of epoch %d (G2)", v, tokenOf(e), e.Index, e.Epoch)
	}
	if int(e.Index) <= len(k.canon) {
		if c := k.canon[e.Index-1]; valueOf(c) != v || c.Epoch != e.Epoch {
			k.fail("%s has value %d of epoch %d as record %d, another has %d of %d (G1)", m.name, v, e.Epoch, e.Index, valueOf(c), c.Epoch)
		}
	} else {
		k.canon = append(k.canon, e)
		next := *m.sm
		next.apply(e)
		k.hashes = append(k.hashes, next.hash)
		if v <= beforeValues || v > k.c.value {
			k.fail("record %d is value %d, which nobody has appended (G3)", e.Index, v)
			return
		}
		if at := k.place(v); at != 0 {
			k.fail("value %d is record %d and record %d (G3)", v, at, e.Index)
		}
		k.where = reaching(k.where, v-beforeValues)
		k.where[v-beforeValues] = e.Index
		if err, over := k.ended[v]; over {
			k.fail("value %d became record %d after its append had failed with: %v (G3)", v, e.Index, err)
		}
	}
	if e.Index > 1 && m.sm.hash != k.hashes[e.Index-2] {
		k.fail("%s has another state than its peers before record %d", m.name, e.Index)
	}
}

// place is the index of a value's record, 0 if it is none.
func (k *checker) place(v uint64) uint64 {
	if at := v - beforeValues; at < uint64(len(k.where)) {
		return k.where[at]
	}
	return 0
}

// reaching returns a slice that has a place i.
func reaching(s []uint64, i uint64) []uint64 {
	for uint64(len(s)) <= i {
		s = append(s, 0)
	}
	return s
}

// restored sees a member that has taken a snapshot.
func (k *checker) restored(m *simMember) {
	k.snapshots++
	if n := m.sm.last; n > 0 && (int(n) > len(k.hashes) || k.hashes[n-1] != m.sm.hash) {
		k.fail("%s restored a state at record %d that its peers never had", m.name, n)
	}
}

// acked sees a batch that was acknowledged. It is in the log as one entry: whoever has one of its records has all.
func (k *checker) acked(m *simMember, first uint64, values []uint64) {
	last := first + uint64(len(values)) - 1
	k.highest = max(k.highest, last)
	for i, v := range values {
		k.acks++
		k.lastAcked = max(k.lastAcked, v)
		k.sure = reaching(k.sure, last)
		k.sure[first+uint64(i)] = v
	}
	if m.sm.last < last {
		k.fail("%s acknowledged record %d with only %d applied", m.name, last, m.sm.last)
	}
	data := binary.LittleEndian.AppendUint64(k.room[:0], values[0])
	has := func(o *simMember) bool { return o.disk.Has(data) || o.snapshotHas(last) }
	if k.c.cfg.changes > 0 {
		if !k.durable(m.core.Roster(), has) {
			k.fail("%s acknowledged record %d when it was on no majority of the disks (G1)", m.name, first)
		}
		return
	}
	have := k.c.lost
	for _, o := range k.c.members {
		if has(o) {
			have++
		}
		if have > len(k.c.members)/2 {
			return // the others need not be looked at
		}
	}
	k.fail("%s acknowledged record %d when it was on %d disks of %d (G1)", m.name, first, have-k.c.lost, len(k.c.members))
}

// answered sees what the append of a value got from the state machine.
func (k *checker) answered(m *simMember, value uint64, r log.Result) {
	want := value ^ r.Index<<32
	if len(r.Answers) != 1 || binary.LittleEndian.Uint64(r.Answers[0]) != want {
		k.fail("%s has appended value %d as record %d, and was given the answers %x", m.name, value, r.Index, r.Answers)
	}
}

// snapshotHas reports whether a member's snapshot includes a record.
func (m *simMember) snapshotHas(index uint64) bool {
	_, body, size, _ := m.disk.OpenSnapshot()
	if size == 0 {
		return false
	}
	var b [8]byte
	_, _ = body.Read(b[:])
	return binary.LittleEndian.Uint64(b[:]) >= index
}

// refused sees an append that ended with a definite error.
func (k *checker) refused(v uint64, err error) {
	k.ended[v] = err
	if at := k.place(v); at != 0 {
		k.fail("the append of value %d failed with %v, and it is record %d (G3)", v, err, at)
	}
}

// active sees OnActive being called.
func (k *checker) active(m *simMember, t fence.Token) {
	k.tenures++
	if m.arbiter {
		k.fail("%s becomes active with %v, and is an arbiter", m.name, t)
	}
	for _, o := range k.c.members {
		if o != m && o.process.Up() && o.tenure != nil && o.tenure.open && !o.doubts(o.tenure.until) {
			k.fail("%s becomes active with %v while %s is, with %v and a lease until %v from now (G4)",
				m.name, t, o.name, o.tenure.token, o.tenure.until-o.local())
		}
	}
	if k.newest.Valid() && !t.Supersedes(k.newest) {
		k.fail("%s becomes active with %v after %v (G9)", m.name, t, k.newest)
	}
	k.keptOut(m, k.newest)
	k.newest = t
	e := m.role.lead.epoch
	if m.sm.last+1 < e.First {
		k.fail("%s becomes active in epoch %d, which begins with record %d, with %d applied (G5)", m.name, e.Epoch, e.First, m.sm.last)
	}
	k.epochs[e.Epoch] = e
}

// led sees a member that leads.
func (k *checker) led(m *simMember, term uint64) {
	if who, ok := k.leads[term]; ok && who != m.id {
		k.fail("%s leads in term %d, in which %s has led (G1)", m.name, term, k.c.byID[who].name)
	}
	k.leads[term] = m.id
}

// leased sees a lease. Whether its holder is active or not: nobody else can have one.
func (k *checker) leased(m *simMember, until time.Duration) {
	if until <= m.local() {
		return
	}
	for _, o := range k.c.members {
		if o != m && o.process.Up() && o.core.LeaseUntil() > o.local()+o.doubt() {
			k.fail("%s has a lease while %s has one for %v from now (G4)", m.name, o.name, o.core.LeaseUntil()-o.local())
		}
	}
}

// end looks at the whole when the cluster has come to rest.
func (k *checker) end() {
	for i, v := range k.sure {
		if v != 0 && (i > len(k.canon) || valueOf(k.canon[i-1]) != v) {
			k.fail("record %d was acknowledged with value %d and is gone (G1)", i, v)
		}
	}
	for _, e := range k.epochs {
		for i := int(e.First) - 1; i < len(k.canon); i++ {
			if k.canon[i].Epoch < e.Epoch {
				k.fail("record %d is of epoch %d, after the start of %d at %d (G2)", i+1, k.canon[i].Epoch, e.Epoch, e.First)
				break
			}
		}
	}
	for i := 1; i < len(k.canon); i++ {
		if k.canon[i].Epoch < k.canon[i-1].Epoch {
			k.fail("record %d is of epoch %d, after one of %d (G2)", i+1, k.canon[i].Epoch, k.canon[i-1].Epoch)
		}
	}
}
