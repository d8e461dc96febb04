package wire

import "fmt"

// A Reason says why a change or a command was refused. Numbers are not used again.
type Reason uint16

// The reasons.
const (
	ReasonNoMember Reason = iota + 1
	ReasonExists
	ReasonNewcomer
	ReasonQuorum
	ReasonNotCaughtUp
	ReasonLastVoter
	ReasonChanging
	ReasonOutdated
	ReasonBadChange
	ReasonNoSuccessor
	ReasonNotHandedOver
	ReasonNoLeader
	ReasonNotChosen
)

var reasons = map[Reason]string{
	ReasonNoMember:      "no member has that name",
	ReasonExists:        "there is another such member",
	ReasonNewcomer:      "nobody there waits to be added",
	ReasonQuorum:        "the cluster would lose its majority",
	ReasonNotCaughtUp:   "it has not caught up",
	ReasonLastVoter:     "it is the last one that can be active",
	ReasonChanging:      "another change of the members is under way",
	ReasonOutdated:      "the list of members has changed meanwhile",
	ReasonBadChange:     "not a change of the members that can be made",
	ReasonNoSuccessor:   "no other member is alive and caught up",
	ReasonNotHandedOver: "the other member did not take over",
	ReasonNoLeader:      "no leader is known",
	ReasonNotChosen:     "the active did not hand over to this member",
}

func (r Reason) String() string {
	if text, ok := reasons[r]; ok {
		return text
	}
	return fmt.Sprintf("reason %d, which only a later version knows", uint16(r))
}
