package ha

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/baton-ha/baton/internal/moment"
	"github.com/baton-ha/baton/internal/wire"
	"github.com/baton-ha/baton/log"
	"github.com/baton-ha/baton/transport"
)

// This file serves those who are no members (package client): it tells them who there is and who is Active, and gives them the
// log. A client is believed nothing, and holds nothing up: what is sent to it waits in its own stream only.

// outsiders are those who may open the streams of this file. Members use their own kinds.
var outsiders = []transport.Role{transport.RoleClient, transport.RoleOperator}

const (
	// slowTail is how long what was read for a client may wait without any of it being taken, before it is given up: then nothing is
	// held for a client that has stopped reading, which asks again when it goes on. Who asks for nothing is given up after it, too.
	slowTail = 10 * time.Second
	// lostTouch is for how many election timeouts a member without a leader goes on giving nothing to a client that has
	// everything: another member may have more.
	lostTouch = 4
	// bytesPerTail is how much of the memory stands for one tail: what is read and encoded at a time takes a quarter of it.
	bytesPerTail = 2 << 20
)

// leaving ends what is served when this member ends.
var leaving = &transport.StreamError{Code: wire.CodeLeaving, Text: "this member is being closed"}

// clients is what is served to those who are no members.
type clients struct {
	tails tailSlots
	beats beats
}

// serveClients begins to serve them.
func (n *Node) serveClients() error {
	n.clients.tails.most = int(max(8, min(n.cfg.MemoryBytes, ampleMemory)/bytesPerTail))
	return errors.Join(
		n.net.Handle(wire.KindCluster, outsiders, n.tellCluster),
		n.net.Handle(wire.KindTail, outsiders, n.serveTail),
		n.net.Handle(wire.KindCursor, append([]transport.Role{transport.RoleMember}, outsiders...), n.serveCursor),
		n.net.Handle(wire.KindWorker, outsiders, n.serveWorkers),
	)
}

// cluster is what a client is told of all.
func (n *Node) cluster() *wire.Cluster {
	s := n.view(n.clock())
	c := &wire.Cluster{From: n.cfg.Name, Epoch: s.Epoch, Active: s.Active, InTouch: s.Leader != "", Version: n.roster().Version}
	for _, m := range n.Members() {
		c.Members = append(c.Members, wire.Member{
			Name: m.Name, Addr: m.Addr, Advertise: m.Advertise, Kind: m.Kind.String(),
			State: m.State.String(), Liveness: m.Liveness.String(),
		})
	}
	return c
}

// tellCluster tells a client who there is, at once and whenever that changes.
func (n *Node) tellCluster(ctx context.Context, st *transport.Stream) error {
	look := moment.NewTicker(n.cfg.ElectionTimeout) // for what is heard of others
	defer look.Stop()
	var told []byte
	for {
		changed := *n.changed.Load()
		now, err := n.cluster().Encode()
		if err != nil {
			return err
		}
		if !bytes.Equal(now, told) {
			if err := st.Send(now); err != nil {
				return err
			}
			told = now
		}
		select {
		case <-changed:
		case <-look.C:
		case <-n.ended:
			return leaving
		case <-ctx.Done():
			return nil
		}
	}
}

// A tail is a client that reads the log.
type tail struct {
	st *transport.Stream
	// Where it comes from: the host, and of a connection from there all of its address.
	host, session string
	readers       int // at the client, as it says

	part  int           // bytes of the parts in which batches may be sent as they are, 0: they may not
	sends atomic.Uint64 // twice how often something was sent to it, and one more while something is
	sent  atomic.Uint64 // the last record that was given to it
	out   []byte
	parts []transport.Sealed
	beat  beat
}

// serveTail gives a client the committed records from the one on for which it asks.
func (n *Node) serveTail(ctx context.Context, st *transport.Stream) error {
	silent := time.AfterFunc(slowTail, func() { st.Reset(wire.CodeSlow, "nothing was asked for") })
	asked, err := st.Recv(wire.MaxTailRequest)
	silent.Stop()
	if err != nil {
		return err
	}
	from, parts, readers, err := wire.ParseTailRequest(asked)
	if err != nil {
		return &transport.StreamError{Code: wire.CodeMalformed, Text: err.Error()}
	}
	from = max(from, 1)
	t := &tail{st: st, host: hostOf(st.Remote()), session: st.Remote().String(), readers: readers}
	if parts {
		t.part = wire.TailPart
	}
	if err := n.clients.tails.take(t); err != nil {
		return err
	}
	defer n.clients.tails.give(t)
	st.Together()
	t.sent.Store(from - 1)
	var watching sync.WaitGroup
	defer watching.Wait()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watching.Go(func() { n.watchTail(ctx, cancel, t) })
	return n.feedTail(ctx, t, from)
}

// feedTail sends records until the end of one of both. Nothing is read for a client that has not taken what it was sent before.
func (n *Node) feedTail(ctx context.Context, t *tail, from uint64) error {
	for piece, err := range n.log.Pieces(ctx, from, t.part, func() (int64, error) { return t.ready(ctx, n) }) {
		var gone *CompactedError
		switch {
		case errors.As(err, &gone):
			return t.st.Send(wire.Compacted(gone.Index, gone.First))
		case errors.Is(err, ErrClosed):
			return leaving
		case err != nil:
			return err
		}
		t.sends.Add(1)
		err := t.send(piece)
		t.sends.Add(1)
		if err != nil {
			return err
		}
		t.beat = beat{sent: n.clock(), cut: piece.Cut}
	}
	return nil
}

// send sends what was read at a time.
func (t *tail) send(piece log.Piece) error {
	if len(piece.Parts) > 0 {
		return t.sendParts(piece)
	}
	return t.sendRecords(piece.Records)
}

// sendParts sends parts of batches from where they are in the log.
func (t *tail) sendParts(piece log.Piece) error {
	t.out, t.parts = t.out[:0], t.parts[:0]
	for _, p := range piece.Parts {
		at := len(t.out)
		t.out = wire.AppendPart(t.out, wire.Part{Epoch: piece.Epoch, First: p.First, Count: uint32(p.Count), Before: p.Before, After: p.After})
		t.parts = append(t.parts, transport.Sealed{Head: t.out[at:], Body: p.Data})
	}
	err := t.st.SendSealed(t.parts...)
	clear(t.parts)
	if last := piece.Parts[len(piece.Parts)-1]; err == nil {
		t.sent.Store(last.First + uint64(last.Count) - 1)
	}
	return err
}

// sendRecords sends records in messages of about the same size.
func (t *tail) sendRecords(records []Entry) error {
	for len(records) > 0 {
		count, size := 0, 0
		for _, e := range records {
			if size += wire.RecordHead + len(e.Data); count > 0 && size > wire.TailPiece || e.Epoch != records[0].Epoch {
				break
			}
			count++
		}
		t.out = wire.BeginRecords(t.out[:0], records[0].Epoch, records[0].Index)
		for _, e := range records[:count] {
			t.out = wire.AppendRecord(t.out, e.Data)
		}
		wire.EndRecords(t.out, count)
		if err := t.st.Send(t.out); err != nil {
			return err
		}
		t.sent.Store(records[count-1].Index)
		records = records[count:]
	}
	if cap(t.out) > 2*wire.TailPiece {
		t.out = nil // of a large record
	}
	return nil
}

// watchTail ends a tail that has everything from a member that does not get on, and one whose client does not take what it is sent.
func (n *Node) watchTail(ctx context.Context, end context.CancelCauseFunc, t *tail) {
	look := moment.NewTicker(n.cfg.ElectionTimeout)
	defer look.Stop()
	var sends, sent uint64 // at the last look
	for lost, slow := 0, 0; lost < lostTouch; {
		select {
		case <-look.C:
		case <-ctx.Done():
			return
		}
		s, b := t.sends.Load(), t.st.Sent()
		if slow++; s%2 == 0 || s != sends || b != sent {
			slow = 0
		}
		if sends, sent = s, b; time.Duration(slow)*n.cfg.ElectionTimeout >= slowTail {
			t.st.Reset(wire.CodeSlow, "what was sent was not taken")
			return
		}
		lost++
		if index, _ := n.log.Position(); n.view(n.clock()).Leader != "" || t.sent.Load() < index {
			lost = 0
		}
	}
	end(&transport.StreamError{Code: wire.CodeOutOfTouch, Text: "this member has given all that it has, and knows no leader"})
}
