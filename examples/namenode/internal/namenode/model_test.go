package namenode

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/baton-ha/baton/examples/namenode/internal/dfs"
	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/internal/testseed"
)

// This file runs Actives, their block maps and their plans against DataNodes that are a few lines, on a network that delays and
// loses everything: reports, commands, answers. Actives are replaced, and go on for a while without knowing it.

// A disk is a DataNode of the model.
type disk struct {
	name         string
	boot, change uint64
	replicas     map[uint64]dfs.Block
	changes      []dfs.Replica
	obeys        fence.Token // since the start
	guard        fence.Token // for ever
	number       uint64
	dead         bool
}

func (d *disk) note(b dfs.Block, gone bool) {
	d.change++
	d.changes = append(d.changes, dfs.Replica{Block: b, Complete: true, Gone: gone})
}

func (d *disk) report(after uint64, all bool) *dfs.Report {
	p := &dfs.Report{Node: d.name, Boot: d.boot, All: all, From: after, To: d.change, Obeys: d.obeys}
	if !all {
		p.Replicas = slices.Clone(d.changes[after:])
		return p
	}
	for _, b := range d.replicas {
		p.Replicas = append(p.Replicas, dfs.Replica{Block: b, Complete: true})
	}
	return p
}

const blocks = 12

// A model is a world.
type model struct {
	rnd      *rand.Rand
	guarded  bool // DataNodes obey only the newest token
	numbered bool // and no command that was overtaken
	names    *Namespace
	disks    []*disk
	maps     [3]*blockMap
	told     [3]map[string]uint64 // by DataNode: up to where the last report went; absent: all is to be sent
	tenures  []*active            // the last one is the Active
	flying   []func()             // what is on its way, in no order
	stuck    []func()             // what takes longer
	deleted  int
	err      error
}

func newModel(seed uint64, guarded, numbered bool) *model {
	m := &model{rnd: rand.New(rand.NewPCG(seed, 0)), guarded: guarded, numbered: numbered, names: NewNamespace()}
	for i := range m.maps {
		m.maps[i], m.told[i] = newBlockMap(), map[string]uint64{}
	}
	for i := range 4 {
		m.disks = append(m.disks, &disk{name: fmt.Sprintf("d%d", i), boot: m.rnd.Uint64(), replicas: map[uint64]dfs.Block{}})
	}
	for id := uint64(1); id <= blocks; id++ {
		b := dfs.Block{ID: id, Gen: id, Len: 1, Sum: uint32(id)}
		m.names.put(&file{Path: fmt.Sprintf("/%d", id), Replication: 1 + m.rnd.IntN(3), Blocks: []dfs.Block{b}})
		for _, i := range m.rnd.Perm(len(m.disks))[:2+m.rnd.IntN(2)] {
			m.disks[i].replicas[id] = b
		}
	}
	m.elect()
	return m
}

// elect makes another NameNode the Active. The one before does not know yet.
func (m *model) elect() {
	epoch := len(m.tenures) + 1
	s := &Server{names: m.names, blocks: m.maps[m.rnd.IntN(len(m.maps))]}
	m.tenures = append(m.tenures, newActive(s, nil, fence.Token{Cluster: "dfs", Epoch: uint64(epoch), Holder: "a"}))
}

func (m *model) step() {
	d := m.disks[m.rnd.IntN(len(m.disks))]
	switch n := m.rnd.IntN(1000); {
	case n < 4:
		m.elect()
	case n < 8: // a DataNode is started again
		d.boot, d.obeys, d.number, d.change, d.changes = m.rnd.Uint64(), fence.Token{}, 0, 0, nil
		for i := range m.told {
			delete(m.told[i], d.name)
		}
	case n < 20: // one is missed, or is back
		d.dead = n < 10 && !d.dead
	case n < 40: // somebody wants more replicas of a file, or fewer
		m.names.owner[1+m.rnd.Uint64N(blocks)].Replication = 1 + m.rnd.IntN(3)
	case n < 50 && len(m.stuck) > 0:
		i := m.rnd.IntN(len(m.stuck))
		m.flying = append(m.flying, m.stuck[i])
		m.stuck = slices.Delete(m.stuck, i, i+1)
	case n < 300:
		m.send(d, m.rnd.IntN(len(m.maps)))
	case n < 340: // one that was replaced looks once more what there is to do
		m.look(m.tenures[m.rnd.IntN(len(m.tenures))])
	case n < 500:
		m.look(m.tenures[len(m.tenures)-1])
	case len(m.flying) > 0:
		i := m.rnd.IntN(len(m.flying))
		arrive := m.flying[i]
		m.flying = slices.Delete(m.flying, i, i+1)
		if n < 550 {
			m.stuck = append(m.stuck, arrive)
		} else {
			arrive()
		}
	}
}

// send sends a report to a NameNode. The next one is sent when it has come, or is lost.
func (m *model) send(d *disk, i int) {
	after, known := m.told[i][d.name]
	p := d.report(after, !known || m.rnd.IntN(5) == 0)
	if m.rnd.IntN(4) == 0 { // it comes later, and nobody knows whether it comes
		delete(m.told[i], d.name)
		m.flying = append(m.flying, func() { m.maps[i].take(p) })
		return
	}
	if m.maps[i].take(p) {
		m.told[i][d.name] = p.To
	} else {
		delete(m.told[i], d.name)
	}
}

// look is what rule does.
func (m *model) look(a *active) {
	addr := map[string]string{}
	for _, d := range m.disks {
		if !d.dead {
			addr[d.name] = d.name
		}
	}
	p, todo := a.planLocked(addr)
	for _, d := range m.disks {
		n := p.nodes[d.name]
		if blocks := todo.deletes[d.name]; n != nil && (len(blocks) > 0 || a.obeying[d.name].lost(n)) {
			q, boot := dfs.Delete{Number: a.commandedLocked(d.name), Blocks: blocks}, d.boot
			m.flying = append(m.flying, func() { m.carryOut(a, d, boot, q) })
			if m.rnd.IntN(2) == 0 { // no answer comes in time, and the command is still on its way
				a.answeredLocked(d.name, dfs.Deleted{}, errors.New("timeout"))
			}
		}
	}
	for _, c := range todo.copies {
		to := slices.IndexFunc(m.disks, func(d *disk) bool { return d.name == c.to })
		m.flying = append(m.flying, func() {
			d := m.disks[to]
			if _, has := d.replicas[c.block.ID]; m.let(d, a.token) && !has {
				d.replicas[c.block.ID] = c.block
				d.note(c.block, false)
			}
		})
	}
}

// let is the guard.
func (m *model) let(d *disk, t fence.Token) bool {
	if m.guarded && fence.Check(t, d.guard) != nil {
		return false
	}
	d.guard = t
	if t.Supersedes(d.obeys) || !d.obeys.Valid() {
		d.obeys, d.number = t, 0
	}
	return true
}

// carryOut is a command that arrives at the process it was sent to.
func (m *model) carryOut(a *active, d *disk, boot uint64, q dfs.Delete) {
	var done dfs.Deleted
	err := errors.New("refused")
	if d.boot == boot && m.let(d, a.token) && (q.Number > d.number || !m.numbered) {
		d.number = max(d.number, q.Number)
		for _, b := range q.Blocks {
			if _, has := d.replicas[b.ID]; !has {
				continue
			}
			delete(d.replicas, b.ID)
			d.note(b, true)
			m.deleted++
			m.check(a, d, b)
		}
		done, err = dfs.Deleted{Boot: d.boot, Change: d.change}, nil
	}
	if o := a.obeying[d.name]; o.waiting && o.number == q.Number && m.rnd.IntN(6) > 0 {
		m.flying = append(m.flying, func() {
			if o := a.obeying[d.name]; o.waiting && o.number == q.Number {
				a.answeredLocked(d.name, done, err)
			}
		})
	} else if o.waiting && o.number == q.Number {
		a.answeredLocked(d.name, done, errors.New("the answer is lost"))
	}
}

// check checks that a replica is left.
func (m *model) check(a *active, at *disk, b dfs.Block) {
	for _, d := range m.disks {
		if _, has := d.replicas[b.ID]; has {
			return
		}
	}
	if m.err == nil {
		m.err = fmt.Errorf("%s has %s delete the last replica of block %d", a.token, at.name, b.ID)
	}
}

// TestLastReplicaStays runs worlds in which no order of reports, commands, answers, failovers and restarts has the last replica of a block
// deleted. Where DataNodes obey older tokens too, or commands that were overtaken, there is one.
func TestLastReplicaStays(t *testing.T) {
	first, deleted := testseed.New(t), 0
	for seed := first; seed < first+30; seed++ {
		m := newModel(seed, true, true).run()
		if m.err != nil {
			t.Errorf("seed %d: %v", seed, m.err)
		}
		deleted += m.deleted
	}
	if deleted < 100 {
		t.Errorf("only %d replicas were deleted", deleted)
	}
	for _, c := range []struct {
		without           string
		guarded, numbered bool
	}{{"guards", false, true}, {"numbers", true, false}} {
		var err error
		for seed := uint64(0); err == nil && seed < 1000; seed++ {
			if err = newModel(seed, c.guarded, c.numbered).run().err; err != nil {
				t.Logf("without %s, seed %d: %v", c.without, seed, err)
			}
		}
		if err == nil {
			t.Errorf("%s make no difference", c.without)
		}
	}
}

func (m *model) run() *model {
	for i := 0; i < 2000 && m.err == nil; i++ {
		m.step()
	}
	return m
}
