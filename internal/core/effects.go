package core

import (
	"math"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// Effects is what a step asks the driver to do. The driver lets its [Observer] see the changes first
// (a role that ends must have ended before anything that depends on it leaves), then does the rest in
// any order between the fields, in the given order within each.
type Effects struct {
	Changes []Change
	Send    []*raftpb.Message
	Writes  []*Write
	Applies []*Apply
	Fetches []*Fetch
	Done    []Done
	Decided []Decided
	Reads   []ReadDone
}

// reset makes room for the effects of the next step.
func (e *Effects) reset() {
	e.Changes = emptied(e.Changes)
	e.Send = emptied(e.Send)
	e.Writes = emptied(e.Writes)
	e.Applies = emptied(e.Applies)
	e.Fetches = emptied(e.Fetches)
	e.Done = emptied(e.Done)
	e.Decided = emptied(e.Decided)
	e.Reads = emptied(e.Reads)
}

// emptied returns a slice to be filled again. It keeps nothing alive.
func emptied[T any](s []T) []T {
	clear(s)
	return s[:0]
}

// A Write is to be made durable, in order. Then its messages are to be sent, by whoever has written it, and
// it is to be answered with [Written].
type Write struct {
	Hard     *raftpb.HardState // nil: unchanged
	Entries  []*raftpb.Entry
	Snapshot *raftpb.Snapshot // nil, or a staged one to bring into force first

	Send  []*raftpb.Message // to the other members, once it is durable
	Bytes int               // of the entries
	At    time.Duration     // when it was durable, on this member's clock; set by who has written it. 0: when the core is told

	// Patient: nothing follows from it at once, so that its [Written] may wait until the core is stepped for another reason, unless
	// something that is committed was not handed out yet ([Core.Moved]).
	Patient bool

	responses []*raftpb.Message // to be stepped once it is durable
	issued    time.Duration

	// Room for what most writes have, so that one allocation makes all of it.
	hard        raftpb.HardState
	send1, own1 [1]*raftpb.Message
}

// empty reports whether there is nothing to do.
func (w *Write) empty() bool {
	return w.Hard == nil && len(w.Entries) == 0 && w.Snapshot == nil && len(w.Send) == 0 && len(w.responses) == 0
}

// An Apply is what was committed. It is to be shown to readers, to be given to the state machine, in order, and then to be
// answered with [Applied].
type Apply struct {
	Snapshot *raftpb.Snapshot // if not nil, restore from it
	Bytes    int              // of the raft entries it stands for

	Accepted []*raftpb.Entry // the batches that count
	Position Position        // after it
	Term     uint64          // of the raft entry at Position
	Batches  []*Batch        // of this member, accepted in it
	Patient  bool            // as that of a Write

	requests  bool    // some records belong to requests
	epochs    []Epoch // started in it
	responses []*raftpb.Message

	// Room, as in a Write.
	accepted1 [1]*raftpb.Entry
	batches1  [1]*Batch
}

// AppendRecords appends the accepted records to others. Their data is the log's.
func (a *Apply) AppendRecords(records []Entry) []Entry {
	records, _ = RecordsOf(records, a.Accepted, math.MaxInt)
	return records
}

// RecordsOf appends to others the records of the first of some accepted entries, and says of how many: at least of one, and of more as
// long as what describes the records takes no more than a limit of bytes.
func RecordsOf(records []Entry, accepted []*raftpb.Entry, limit int) (_ []Entry, entries int) {
	for _, e := range accepted {
		h, err := ParseHeader(e.GetData())
		if err != nil {
			panic(err) // it was accepted
		}
		if entries > 0 && (len(records)+int(h.Count))*RecordSize > limit {
			break
		}
		records = AppendRecords(records, h, e.GetData())
		entries++
	}
	return records, entries
}

// Done is the fate of a proposed batch: a nil Err means that it is in the log from Batch.First on,
// and applied on this member. Any other is definite (G3).
type Done struct {
	Batch *Batch
	Err   error
}
