package ha

import (
	"sync/atomic"

	"github.com/baton-ha/baton/internal/wire"
)

// CallStats is what has become of the calls that came to this member: from clients and other members, and, while it was Active, from its own program.
type CallStats struct {
	Answered uint64 // has taken effect, now or when it was asked for before

	NotActive  uint64 // not taken: this member was not Active, and the caller goes on to the one that is
	Busy       uint64 // not taken: ErrBusy
	NoRoom     uint64 // not taken: ErrNoRoom
	TooLarge   uint64 // not taken: ErrTooLarge
	Refused    uint64 // Config.Handle has returned an error of its own, or panicked
	Unknown    uint64 // the role has ended, or the caller's time was over: the caller asks again
	Expired    uint64 // ErrSessionExpired
	AnswerLost uint64 // ErrAnswerLost

	Callers int // connections of clients and operators by which calls come, at present
	Tails   int // streams on which clients and operators read the log here, at present; the readers of one client may share one
}

// callCounts counts calls by what they have come to.
type callCounts [wire.CallMalformed]atomic.Uint64

// failed counts a call that was not answered.
func (c *callCounts) failed(code wire.CallCode) {
	if int(code) < len(c) {
		c[code].Add(1)
	}
}

// answered counts those of some replies that are answers: with one addition for all of them.
func (c *callCounts) answered(replies []wire.Reply) {
	n := uint64(0)
	for i := range replies {
		if replies[i].Code == wire.CallDone {
			n++
		}
	}
	if n > 0 {
		c[wire.CallDone].Add(n)
	}
}

func (n *Node) callStats() CallStats {
	of := func(code wire.CallCode) uint64 { return n.handling.counts[code].Load() }
	return CallStats{
		Answered: of(wire.CallDone), NotActive: of(wire.CallNotActive), Busy: of(wire.CallBusy), NoRoom: of(wire.CallNoRoom), TooLarge: of(wire.CallTooLarge),
		Refused: of(wire.CallRefused), Unknown: of(wire.CallUnknown), Expired: of(wire.CallExpired), AnswerLost: of(wire.CallAnswerLost),
		Callers: int(n.handling.streams.Load()), Tails: n.clients.tails.size(),
	}
}
