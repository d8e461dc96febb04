package log

import (
	"fmt"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/baton-ha/baton/internal/calls"
	"github.com/baton-ha/baton/internal/core"
)

// runWriter makes writes durable and then sends the answers that rest on them. What has queued up while the last one was synced goes into one
// sync (group commit).
func (l *Log) runWriter() {
	defer l.workers.Done()
	var send []*raftpb.Message
	for {
		writes, ok := l.writes.take()
		if !ok {
			return
		}
		for len(writes) > 0 {
			n, bytes := 0, 0
			for n < len(writes) && (n == 0 || bytes < core.MaxSync) {
				for _, e := range writes[n].Entries {
					bytes += core.EntrySize(e)
				}
				n++
			}
			l.writing.Store(true)
			err := l.store.Persist(writes[:n])
			l.writing.Store(false)
			if err != nil {
				l.Fail(fmt.Errorf("write the log: %w", err))
				return
			}
			send = send[:0]
			for _, w := range writes[:n] {
				send = append(send, w.Send...)
			}
			l.net.Send(send) // from here, not by way of the loop: a leader waits for it
			l.answer(writes[:n])
			writes = writes[n:]
		}
	}
}

// runFetcher reads old entries from disk.
func (l *Log) runFetcher() {
	defer l.workers.Done()
	for {
		fetches, ok := l.fetches.take()
		if !ok {
			return
		}
		for _, f := range fetches {
			var read core.Fetched
			l.patiently(func() error {
				read = l.store.Fetch(f)
				return read.Err
			})
			l.Post(read)
		}
	}
}

// runApplier gives committed records to the state machine, if there is one.
func (l *Log) runApplier() {
	defer l.workers.Done()
	err := fmt.Errorf("state machine: apply: %w", calls.ErrGoexit)
	defer func() {
		if err != nil {
			l.Fail(err)
		}
	}()
	caller := l.calls.Caller()
	for {
		applies, ok := l.applies.take()
		if !ok {
			err = nil
			return
		}
		for _, a := range applies {
			if a == nil {
				if at, ok := l.check.wanted(); ok {
					l.checkpoint(at)
				}
				continue
			}
			began := time.Now()
			answers, failed := l.apply(caller, a)
			if failed != nil {
				err = failed
				return
			}
			l.counts.applyTime.Observe(int64(time.Since(began)))
			settle(a, answers, l.answerer != nil) // from here, not by way of the loop: the appenders wait for it
			l.done(core.Applied{Apply: a}, a.Patient)
		}
	}
}

// applyBytes bounds what describes the records that Apply is given at a time.
const applyBytes = 1 << 20

// apply does one apply, and a checkpoint after it if one is due. It returns the answers to its records if somebody here waits
// for them, or some belong to requests.
func (l *Log) apply(caller calls.Caller, a *core.Apply) (answers [][]byte, err error) {
	defer core.Catch("state machine", &err)
	if a.Snapshot != nil {
		if err := l.restore(a.Snapshot); err != nil {
			return nil, err
		}
	}
	for rest := a.Accepted; len(rest) > 0; {
		records, n := core.RecordsOf(nil, rest, applyBytes)
		given, err := l.give(caller, records)
		if err != nil {
			return nil, fmt.Errorf("state machine: apply records %d to %d: %w", records[0].Index, records[len(records)-1].Index, err)
		}
		if len(a.Batches) > 0 || a.Requests() {
			answers = append(answers, given...)
		}
		for _, e := range rest[:n] {
			if err := l.store.soundParts(e, "after Apply, which must not write to Entry.Data"); err != nil {
				return nil, err
			}
		}
		rest = rest[n:]
	}
	return answers, l.applyDone(a, answers)
}

// applyDone notes an apply, with the answers to its records, and begins a checkpoint after it if one is due.
func (l *Log) applyDone(a *core.Apply, answers [][]byte) (err error) {
	var at Place
	var due bool
	note := func() { err = l.desk.applied(a, answers) }
	if l.cfg.Arbiter {
		note()
	} else {
		at, due = l.check.Due(a, note)
	}
	if err != nil {
		return err
	}
	l.applied.move(a.Position.Index)
	if l.misfit.Load() && l.misfit.Swap(false) {
		l.Post(Problem{Kind: problemSnapshot})
	}
	switch {
	case l.cfg.Arbiter:
		if from, due := l.check.Want(a); due {
			l.Post(core.Want{From: from})
		}
	case due:
		l.checkpoint(at)
	}
	if err := l.check.full(); err != nil && l.judgeRoom() {
		l.Post(Problem{Kind: problemCheckpoint, Err: err})
	}
	return nil
}
