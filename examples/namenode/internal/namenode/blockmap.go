package namenode

import (
	"cmp"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/baton-ha/baton/examples/namenode/internal/dfs"
	"github.com/baton-ha/baton/fence"
)

// A blockMap is where the blocks are, as DataNodes have reported to this NameNode. It is the same on a Standby as on the Active, but for
// what is on its way, and it is in no log and no image: who starts anew is told all.
type blockMap struct {
	mu    sync.Mutex // guards all below
	nodes map[string]*reported
}

// A reported is what one DataNode has said.
type reported struct {
	boot, change uint64
	obeys        fence.Token
	replicas     map[uint64]dfs.Replica
}

func newBlockMap() *blockMap { return &blockMap{nodes: map[string]*reported{}} }

// take takes a report. It returns false if all is wanted instead, because this is not the next one.
func (m *blockMap) take(p *dfs.Report) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.nodes[p.Node]
	same := n != nil && n.boot == p.Boot
	switch {
	case !p.All && (!same || n.change != p.From), p.All && same && p.To < n.change:
		return false
	case !same:
		n = &reported{boot: p.Boot}
		m.nodes[p.Node] = n
	}
	if p.All {
		n.replicas = map[uint64]dfs.Replica{}
	}
	for _, r := range p.Replicas {
		if r.Gone {
			delete(n.replicas, r.ID)
		} else {
			n.replicas[r.ID] = r
		}
	}
	n.change = p.To
	if p.Obeys.Supersedes(n.obeys) || !n.obeys.Valid() {
		n.obeys = p.Obeys
	}
	return true
}

// locate fills in where complete blocks are, of the DataNodes that are alive, in any order.
func (m *blockMap) locate(files []dfs.File, alive map[string]string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range files {
		for j := range files[i].Blocks {
			b := &files[i].Blocks[j]
			b.Nodes = []dfs.Node{}
			for name, addr := range alive {
				if n := m.nodes[name]; n != nil && n.has(b.Block) {
					b.Nodes = append(b.Nodes, dfs.Node{Name: name, Addr: addr})
				}
			}
			rand.Shuffle(len(b.Nodes), func(i, j int) { b.Nodes[i], b.Nodes[j] = b.Nodes[j], b.Nodes[i] })
		}
	}
}

// has reports whether there is a complete replica.
func (n *reported) has(b dfs.Block) bool {
	r, ok := n.replicas[b.ID]
	return ok && r.Complete && r.Block == b
}

// choose picks DataNodes for a new block: those with the fewest replicas, and others only if there are no more than those to avoid.
func (m *blockMap) choose(count int, alive map[string]string, avoid []string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	names := slices.Collect(maps.Keys(alive))
	rand.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	slices.SortStableFunc(names, func(a, b string) int { return cmp.Compare(m.loadLocked(a), m.loadLocked(b)) })
	if good := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return slices.Contains(avoid, n) }); len(good) > 0 {
		names = good
	}
	return names[:min(count, len(names))]
}

func (m *blockMap) loadLocked(name string) int {
	if n := m.nodes[name]; n != nil {
		return len(n.replicas)
	}
	return 0
}

// counts returns how many complete replicas DataNodes that are alive have, and how many of these DataNodes obey the Active of an epoch.
func (m *blockMap) counts(alive map[string]string, epoch uint64) (replicas, obedient int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name := range alive {
		n := m.nodes[name]
		if n == nil {
			continue
		}
		for _, r := range n.replicas {
			if r.Complete {
				replicas++
			}
		}
		if n.obeys.Epoch == epoch {
			obedient++
		}
	}
	return replicas, obedient
}
