package transport

import (
	"context"
	"errors"
)

// Of two processes with the name of one peer, the peer is the one that answers at its address: no other can be talked to. So a process that comes
// while another one is connected is let in where the address leads to it, as it does to one that was restarted, whatever is left of its
// predecessor; and refused where it leads to the other one. That is what a copy of a member's directory meets. No number in the directory could
// tell, since a copy counts on from the same.

// problemDuplicate says that the peer named refuses us, since another process has our name, and answers at our address.
const problemDuplicate = "duplicate"

// whereabouts is what came of asking at a peer's address which process is there.
type whereabouts struct {
	instance uint64 // of the one that answers; 0: nobody, or somebody else
	silent   bool   // who listens there has not said in time who it is
}

// find asks at the peer's address. It takes at most half a handshake, since one waits for it: but who is there need not be quick.
func (p *peer) find(ctx context.Context) *whereabouts {
	ctx, cancel := context.WithTimeout(ctx, p.t.cfg.HandshakeTimeout/2)
	defer cancel()
	l, err := p.t.end.Dial(p.small(ctx), p.Peer, PurposeProbe)
	if err != nil {
		return &whereabouts{silent: ctx.Err() != nil}
	}
	l.Close()
	return &whereabouts{instance: l.Peer.Instance}
}

// tellDuplicate tells the program of a dial of the peer that was refused since another process has our name, and with nil that it was not. It reports
// whether the log has it from the program.
func (p *peer) tellDuplicate(err error) bool {
	duplicate := errors.Is(err, ErrDuplicate)
	if duplicate || err == nil {
		p.t.end.Problem(p.Name, problemDuplicate, err)
	}
	return duplicate && p.t.cfg.Problem != nil
}
