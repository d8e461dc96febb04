package namenode

import (
	"cmp"
	"slices"

	"github.com/baton-ha/baton/examples/namenode/internal/dfs"
)

// A plan is what DataNodes should do now.
type plan struct {
	copies  []copyOrder
	deletes map[string][]dfs.Block // by DataNode
}

type copyOrder struct {
	block    dfs.Block
	from, to string
}

// A picture is what a plan is made from.
type picture struct {
	wants map[uint64]wanted
	nodes map[string]*reported // of those that are alive
	// certain are those of which everything is known: nothing that an Active has commanded, this or an earlier one, is still to come.
	certain map[string]bool
	busy    map[uint64]bool // blocks that are being copied or settled
}

// plan decides what should be copied, because too few have it, and what should be deleted.
//
// Invariant: a complete block loses a replica only if so many as the file wants stay at other DataNodes that are certain. What is not
// certain may be gone already: an earlier Active has commanded it, or this one, and the report is on its way.
func (p *picture) plan() plan {
	out := plan{deletes: map[string][]dfs.Block{}}
	where := map[uint64][]string{} // the complete replicas of each block
	load := map[string]int{}
	for _, name := range p.names() {
		load[name] = len(p.nodes[name].replicas)
		for id, r := range p.nodes[name].replicas {
			w, known := p.wants[id]
			switch {
			case known && !w.open && r.Complete && r.Block == w.Block:
				where[id] = append(where[id], name)
			case !p.certain[name]:
			case !known, !w.open && r.Gen < w.Gen: // the file was removed; or the replica was left behind
				out.deletes[name] = append(out.deletes[name], r.Block)
			}
		}
	}
	for _, id := range p.ids() {
		w, have := p.wants[id], where[id]
		if w.open || p.busy[id] || len(have) == 0 {
			continue
		}
		lightest := func(a, b string) int { return cmp.Compare(load[a], load[b]) }
		if len(have) < w.replication {
			free := slices.DeleteFunc(p.names(), func(n string) bool { _, has := p.nodes[n].replicas[id]; return has })
			if len(free) > 0 {
				to, from := slices.MinFunc(free, lightest), have[int(id)%len(have)]
				out.copies = append(out.copies, copyOrder{w.Block, from, to})
				load[to]++
			}
			continue
		}
		sure := slices.DeleteFunc(have, func(n string) bool { return !p.certain[n] })
		if len(sure) > w.replication {
			from := slices.MaxFunc(sure, lightest)
			out.deletes[from] = append(out.deletes[from], w.Block)
			load[from]--
		}
	}
	return out
}

// names are the DataNodes, and ids the blocks, in their order: the same picture makes the same plan.
func (p *picture) names() []string {
	list := make([]string, 0, len(p.nodes))
	for name := range p.nodes {
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}

func (p *picture) ids() []uint64 {
	list := make([]uint64, 0, len(p.wants))
	for id := range p.wants {
		list = append(list, id)
	}
	slices.Sort(list)
	return list
}
