package core

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// members is who belongs to the cluster, after what is committed here, and who of them votes. Whatever is counted (the lease,
// ranks, who is stuck) is counted here.
type members struct {
	roster Roster
	voters quorum
	order  []uint64 // the voters, who campaigns first being the first
}

// membersOf returns those of a roster.
func membersOf(r Roster) members {
	return membersWith(r, quorum{r.Voters(), r.outgoing()})
}

// membersWith is membersOf with other voters.
func membersWith(r Roster, voters quorum) members {
	m := members{roster: r, voters: voters, order: slices.Clone(voters.all())}
	slices.SortFunc(m.order, m.campaigns)
	return m
}

// votes reports whether a member is one of the voters.
func (m *members) votes(id uint64) bool {
	return m.voters.has(id)
}

// arbiter reports whether a member is one, or was until the change that is under way.
func (m *members) arbiter(id uint64) bool {
	member, _ := m.roster.Known(id)
	return member.Kind == KindArbiter
}

// rank is the place of a voter among those that are left without another one, from 0 on: by priority, then by id, arbiters
// behind the others.
func (m *members) rank(of, without uint64) int {
	rank := slices.Index(m.order, of)
	if rank < 0 { // no voter, or none yet
		rank, _ = slices.BinarySearchFunc(m.order, of, m.campaigns)
	}
	if slices.Contains(m.order[:rank], without) {
		rank--
	}
	return rank
}

// campaigns compares when two members campaign.
func (m *members) campaigns(a, b uint64) int {
	if arbiter := m.arbiter(b); m.arbiter(a) != arbiter {
		if arbiter {
			return -1
		}
		return 1
	}
	x, _ := m.roster.Known(a)
	y, _ := m.roster.Known(b)
	return cmp.Or(cmp.Compare(y.Priority, x.Priority), cmp.Compare(a, b))
}

// names lists members for people.
func (m *members) names(ids []uint64) string {
	var names []string
	for _, member := range slices.Concat(m.roster.Members, m.roster.Outgoing) {
		if slices.Contains(ids, member.ID) && !slices.Contains(names, member.Name) {
			names = append(names, member.Name)
		}
	}
	return strings.Join(names, ", ")
}

// A quorum is the voters whose majority decides: one set of them or, while the members change, two, of each of which it takes
// a majority (raft's joint consensus). The second is empty otherwise.
type quorum [2][]uint64

// has reports whether a member is one of the voters.
func (q quorum) has(id uint64) bool { return slices.Contains(q[0], id) || slices.Contains(q[1], id) }

// all returns the voters, each once.
func (q quorum) all() []uint64 {
	if len(q[1]) == 0 {
		return q[0]
	}
	all := slices.Concat(q[0], q[1])
	slices.Sort(all)
	return slices.Compact(all)
}

// agreed returns the greatest time that some majority has reached: of its members, who each have one, the earliest.
func (q quorum) agreed(reached func(id uint64) time.Duration) time.Duration {
	agreed := majority(q[0], reached)
	if len(q[1]) > 0 {
		agreed = min(agreed, majority(q[1], reached))
	}
	return agreed
}

// majority is agreed of one set.
func majority(ids []uint64, reached func(id uint64) time.Duration) time.Duration {
	if len(ids) == 0 {
		return 0
	}
	times := make([]time.Duration, 0, 8)
	for _, id := range ids {
		times = append(times, reached(id))
	}
	slices.Sort(times)
	return times[(len(times)-1)/2]
}
