package ha

import (
	"encoding/json"
	"time"
)

// A Problem is something that is wrong, does not end the member, and keeps it from no role: else it is an [Obstacle].
// Status shows it while it lasts; the log has a line when it begins and one when it is over.
type Problem struct {
	// Kind says what it is about in one word, for programs: docs/operating.md has a table.
	Kind string
	// Peer is the member that it is about, "" if it is this one.
	Peer string
	// Err says what is wrong, as it was said last.
	Err error
	// Since is when it began, by the clock on the wall.
	Since time.Time
}

// MarshalJSON writes the problem with lower-case names, the error as a text.
func (p Problem) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Kind  string    `json:"kind"`
		Peer  string    `json:"peer,omitempty"`
		Err   string    `json:"error"`
		Since time.Time `json:"since"`
	}{p.Kind, p.Peer, p.Err.Error(), p.Since})
}

// The kinds of problem that this package tells of itself.
const (
	problemIdentity  = "identity"  // of the cluster: it cannot be kept
	problemPeers     = "peers"     // the list of the members has some that cannot be talked to
	problemKind      = "kind"      // the list has this member as what its process is not
	problemAdvertise = "advertise" // the list does not say where this member's program is reached
	problemMoved     = "moved"     // the list has this member at another address
	problemPromotion = "promotion" // of a member that has caught up: it is refused

	problemConnection = "connection" // transport's: nothing of what is sent to the peer is taken
)

// problem is told of what is wrong: by the log, by the transport, and by this package. peer is the name of the
// member that it concerns, "" for this one; a nil error says that it is over. It does not block, and may be
// called by anyone at any time.
func (n *Node) problem(peer, kind string, err error) {
	key := conditionKey{kind: kind, peer: peer}
	if err == nil {
		n.conditionOver(key)
		return
	}
	if r := n.roster(); peer != "" && r != nil && !r.has(peer) {
		return // it has left
	}
	n.condition(condition{key: key, err: err, text: err.Error(), since: time.Now()})
}

// forgetProblems shows no more what concerns a member that has left.
func (n *Node) forgetProblems(peer string) {
	_, problems := n.conditions.list()
	for _, p := range problems {
		if p.Peer == peer {
			n.problem(peer, p.Kind, nil)
		}
	}
}
