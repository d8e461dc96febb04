package ha

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/baton-ha/baton/log"
	"github.com/baton-ha/baton/transport"
)

// This file is linearizable reads: on the Active for nothing, on every other member for one question to the leader.

// ErrNoQuorum is returned by ReadBarrier when nobody can say now what was acknowledged: no leader is known here, or the one that was
// does not answer, or is not sure that it still is one. What is read without a barrier may be old; Status().Lag says by how much.
var ErrNoQuorum = errors.New("baton: no leader answers for a majority")

// ReadBarrier returns nil once this member's StateMachine has been given every record that any Append, anywhere, had
// acknowledged, and every record that anybody behind a barrier had read, before the call (G11): who reads the StateMachine then reads
// what was written, and nothing older than what was read before. It works on every member, observers too. On the Active it costs a look at
// the clock, as [Node.Check] does, and holds under the same condition (G4): the rates of the members' clocks
// differ by no more than Config.MaxClockDrift. On others it takes a round trip to the leader,
// which all who call meanwhile share, and the time until what was found missing is applied.
//
// Without a leader it fails at once, with an error that matches [ErrNoQuorum]; a leader that does not answer is waited for one election
// timeout. Other errors are the cause of ctx, [ErrClosed], and [ErrReentrant] within the StateMachine, whose next record it would wait for.
func (n *Node) ReadBarrier(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if in := n.log.Inside(); in != "" {
		return n.misused("ReadBarrier", in)
	}
	if index, ok := n.committed(); ok {
		return n.log.AwaitApplied(ctx, index)
	}
	if n.failed() {
		return ErrClosed
	}
	mine, first := n.rounds.join()
	if first {
		poke(n.readers)
	}
	select {
	case <-mine.done:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-n.ended:
		return ErrClosed
	}
	if mine.err != nil {
		return mine.err
	}
	return n.log.AwaitApplied(ctx, mine.index)
}

// committed returns, while this member is Active by its clock, a record behind everything that can have been acknowledged or read
// anywhere before the call.
func (n *Node) committed() (index uint64, ok bool) {
	t := n.tenure.Load()
	if t == nil {
		return 0, false
	}
	index, ok = n.log.Committed()
	return index, ok && n.holds(t) // it was so all the time since the call
}

// kindRead is the kind of the streams on which members ask the leader. A question is a number, and so is an answer:
// DESIGN.md, "Questions of readers".
const kindRead = "read"

// startReads lets this member ask and answer, until ctx ends.
func (n *Node) startReads(ctx context.Context) error {
	if err := n.net.Handle(kindRead, []transport.Role{transport.RoleMember}, n.answerReads); err != nil {
		return err
	}
	n.leaving.Go(func() { n.askForReaders(ctx) })
	return nil
}

// readIndex returns the last record that can have been acknowledged before the call, if this member leads.
func (n *Node) readIndex(ctx context.Context) (uint64, error) {
	if index, ok := n.committed(); ok {
		return index, nil
	}
	return n.log.ReadIndex(ctx)
}

// What an answer to a reader begins with, behind the number of its question.
const (
	readAnswered = iota
	readNotLeader
)

const (
	questionSize = 8
	replySize    = questionSize + 1 + 8
)

// answerReads answers what another member asks on a stream.
func (n *Node) answerReads(ctx context.Context, st *transport.Stream) error {
	for {
		question, err := st.Recv(questionSize)
		if err != nil || len(question) != questionSize {
			return nil
		}
		index, err := n.readIndex(ctx)
		code := byte(readAnswered)
		if err != nil {
			code = readNotLeader
		}
		n.log.TellCommitted() // who has asked waits until it knows it, too
		if err := st.Send(binary.BigEndian.AppendUint64(append(question, code), index)); err != nil {
			return nil
		}
	}
}

// askForReaders asks the leader as long as somebody waits for a round.
func (n *Node) askForReaders(ctx context.Context) {
	var a asker
	defer a.close()
	for {
		select {
		case <-n.readers:
		case <-ctx.Done():
			return
		}
		for r := n.rounds.begin(); r != nil; r = n.rounds.begin() {
			r.end(n.askLeader(ctx, &a))
		}
	}
}

// An asker is the stream to the leader that was asked last.
type asker struct {
	leader string
	stream *transport.Stream  // nil: there is none
	cancel context.CancelFunc // of its ctx
	asked  uint64             // questions
}

func (a *asker) close() {
	if a.stream != nil {
		_ = a.stream.Close()
		a.cancel()
		a.stream = nil
	}
}

// open opens the stream. It outlives ctx once it is open.
func (a *asker) open(ctx context.Context, net *transport.TCP) error {
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	late := context.AfterFunc(ctx, cancel)
	defer late()
	st, err := net.Open(life, a.leader, kindRead)
	if err != nil {
		cancel()
		return err
	}
	a.stream, a.cancel = st, cancel
	return nil
}

// askLeader asks whoever leads, until one says that it does, no leader is known, or an election timeout is over.
func (n *Node) askLeader(ctx context.Context, a *asker) (index uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, n.cfg.ElectionTimeout)
	defer cancel()
	for {
		switch leader := n.view(n.clock()).Leader; leader {
		case "":
			if err != nil {
				return 0, fmt.Errorf("%w: %w", ErrNoQuorum, err)
			}
			return 0, ErrNoQuorum
		case n.cfg.Name:
			index, err = n.readIndex(ctx)
		default:
			index, err = n.askMember(ctx, a, leader)
		}
		if err == nil || errors.Is(err, ErrClosed) {
			return index, err
		}
		t := time.NewTimer(askPause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return 0, fmt.Errorf("%w: %w", ErrNoQuorum, err)
		}
	}
}

// askPause is how long a member waits before it asks again who did not answer, or said that it does not lead.
const askPause = 5 * time.Millisecond

// askMember asks a member that seems to lead.
func (n *Node) askMember(ctx context.Context, a *asker, leader string) (uint64, error) {
	if a.leader != leader {
		a.close()
		a.leader = leader
	}
	if a.stream == nil {
		if err := a.open(ctx, n.net); err != nil {
			return 0, err
		}
	}
	late := context.AfterFunc(ctx, a.cancel)
	defer late()
	a.asked++
	reply, err := []byte(nil), a.stream.Send(binary.BigEndian.AppendUint64(nil, a.asked))
	if err == nil {
		reply, err = a.stream.Recv(replySize)
	}
	switch {
	case err != nil:
	case len(reply) != replySize || binary.BigEndian.Uint64(reply) != a.asked:
		err = fmt.Errorf("baton: %s gives an answer that does not belong to the question", leader)
	case reply[questionSize] != readAnswered:
		return 0, fmt.Errorf("baton: %s: %w", leader, log.ErrNotLeader)
	default:
		return binary.BigEndian.Uint64(reply[questionSize+1:]), nil
	}
	a.close()
	return 0, fmt.Errorf("baton: ask %s: %w", leader, err)
}
