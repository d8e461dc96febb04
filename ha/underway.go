package ha

import (
	"encoding/json"
	"time"
)

// Underway is a snapshot that is on its way between this member and another one.
type Underway struct {
	Peer  string    // the other member
	Sends bool      // this member sends it; else it receives it
	Bytes int64     // that are there
	Size  int64     // of all of it, -1 if it is not known
	Since time.Time // when it was begun, or goes on after a restart
}

// MarshalJSON writes it with lower-case names.
func (u Underway) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Peer  string    `json:"peer"`
		Sends bool      `json:"sends"`
		Bytes int64     `json:"bytes"`
		Size  int64     `json:"size"`
		Since time.Time `json:"since"`
	}{u.Peer, u.Sends, u.Bytes, u.Size, u.Since})
}

// underway lists the snapshots that are on their way, by peer. It does not block.
func (n *Node) underway() (list []Underway) {
	for _, t := range n.net.Transfers() {
		list = append(list, Underway{Peer: t.Peer.Name, Sends: t.Sends, Bytes: t.Bytes, Size: t.Size, Since: t.Since})
	}
	return list
}
