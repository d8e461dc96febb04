package main

import (
	"bytes"
	"fmt"
	"reflect"
	"testing"

	"github.com/baton-ha/baton/examples/internal/demo/demotest"
	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/internal/testseed"
)

func TestDemo(t *testing.T) { demotest.RunWeb(t) }

// apply appends a command as the log would, and returns its index.
func apply(t *testing.T, q *queue, c command) uint64 {
	t.Helper()
	index := q.index + 1
	if err := q.Apply([]ha.Entry{{Index: index, Epoch: 1, Data: c.encode()}}); err != nil {
		t.Fatal(err)
	}
	return index
}

func take(now int64) command { return command{Op: "take", Now: now, For: 100, Max: 2, Worker: "w"} }

// mustTake takes a job and checks which one it is.
func mustTake(t *testing.T, q *queue, now int64, id uint64) job {
	t.Helper()
	j, ok := q.taken(apply(t, q, take(now)))
	if !ok || j.ID != id {
		t.Fatalf("took job %d, %v, want job %d", j.ID, ok, id)
	}
	return j
}

func TestPushTakeAck(t *testing.T) {
	q := newQueue()
	if _, ok := q.taken(apply(t, q, take(0))); ok {
		t.Error("took a job of an empty queue")
	}
	a := apply(t, q, command{Op: "push", Body: "a"})
	b := apply(t, q, command{Op: "push", Body: "b"})
	ja, jb := mustTake(t, q, 0, a), mustTake(t, q, 0, b)
	if ja.Body != "a" || ja.Attempts != 1 || ja.Worker != "w" || ja.Lease >= jb.Lease {
		t.Errorf("took %+v, then %+v", ja, jb)
	}
	if _, ok := q.taken(apply(t, q, take(0))); ok {
		t.Error("a job was given out twice")
	}
	apply(t, q, command{Op: "ack", Job: a, Lease: jb.Lease})
	if q.done(a, jb.Lease) {
		t.Error("acked with another job's lease")
	}
	for range 2 { // the second is a repetition, answered as the first
		if apply(t, q, command{Op: "ack", Job: a, Lease: ja.Lease}); !q.done(a, ja.Lease) {
			t.Error("not acked")
		}
	}
	if s := q.stats(); s.Pushed != 2 || s.Acked != 1 || s.Leased != 1 || s.Ready != 0 {
		t.Errorf("%+v", s)
	}
}

func TestLeaseEnds(t *testing.T) {
	q := newQueue()
	id := apply(t, q, command{Op: "push"})
	j := mustTake(t, q, 1000, id)
	if q.due(1099) || !q.due(1100) {
		t.Error("due at the wrong time")
	}
	apply(t, q, command{Op: "expire", Now: 1099})
	if s := q.stats(); s.Leased != 1 {
		t.Errorf("expired too early: %+v", s)
	}
	ready, changed := q.poll(1099)
	apply(t, q, command{Op: "expire", Now: 1100})
	if _, open := <-changed; ready || open { // closed, or this would hang
		t.Error("nobody was told that the job is back")
	}
	apply(t, q, command{Op: "ack", Job: id, Lease: j.Lease})
	if q.done(id, j.Lease) {
		t.Error("acked after the lease had ended")
	}
	// Another Active's clock may be behind: time does not go backwards.
	again := mustTake(t, q, 500, id)
	if again.Attempts != 2 || again.Until != 1200 {
		t.Errorf("took %+v", again)
	}
	// That was the last attempt.
	apply(t, q, command{Op: "nack", Job: id, Lease: again.Lease})
	if s := q.stats(); len(s.Dead) != 1 || s.Dead[0].ID != id || s.Ready != 0 || s.Expired != 1 || s.counts.Dead != 1 {
		t.Errorf("%+v", s)
	}
	if _, ok := q.taken(apply(t, q, take(2000))); ok {
		t.Error("took a dead job")
	}
	apply(t, q, command{Op: "retry", Job: id})
	mustTake(t, q, 2000, id)
}

func TestPushOnce(t *testing.T) {
	q := newQueue()
	id := apply(t, q, command{Op: "push", Key: "k"})
	index := apply(t, q, command{Op: "push", Key: "k"})
	if got := q.pushed(index, "k"); got != id || q.size() != 1 {
		t.Errorf("the second push made job %d, the first %d; %d jobs", got, id, q.size())
	}
	if index := apply(t, q, command{Op: "push"}); q.pushed(index, "") != index {
		t.Error("a push without a key")
	}
	for i := range 3 * maxRecent {
		apply(t, q, command{Op: "push", Key: fmt.Sprint(i)})
	}
	if n := len(q.keys.New) + len(q.keys.Old); n > 2*maxRecent {
		t.Errorf("%d keys are remembered", n)
	}
}

// TestSameOnEveryMember applies random commands to two machines, one of which is replaced by what its
// snapshot restores to, again and again.
func TestSameOnEveryMember(t *testing.T) {
	rnd := testseed.Rand(t)
	one, two := newQueue(), newQueue()
	now := int64(0)
	for i := range 20_000 {
		now += rnd.Int64N(20)
		c := command{
			Op: []string{"push", "take", "take", "ack", "nack", "expire", "retry"}[rnd.IntN(7)], Now: now - rnd.Int64N(50),
			For: rnd.Int64N(200), Max: 1 + rnd.IntN(3), Key: []string{"", fmt.Sprint(rnd.IntN(1000))}[rnd.IntN(2)],
		}
		for _, j := range one.jobs {
			if c.Job, c.Lease = j.ID, j.Lease; rnd.IntN(3) == 0 {
				break
			}
		}
		apply(t, one, c)
		apply(t, two, c)
		if i%500 != 0 {
			continue
		}
		s, err := two.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if _, err := s.WriteTo(&b); err != nil {
			t.Fatal(err)
		}
		two = newQueue()
		if err := two.Restore(&b); err != nil {
			t.Fatal(err)
		}
		want, got := one.stats(), two.stats()
		if got.Restored != got.Index {
			t.Errorf("restored %d of %d", got.Restored, got.Index)
		}
		got.Restored = 0
		if !reflect.DeepEqual(want, got) || !reflect.DeepEqual(one.jobs, two.jobs) || !reflect.DeepEqual(one.leased, two.leased) {
			t.Fatalf("after %d commands:\n%+v\n%+v", i+1, want, got)
		}
	}
	if s := one.stats(); s.Acked == 0 || s.Expired == 0 || len(s.Dead) == 0 {
		t.Errorf("the commands did too little: %+v", s)
	}
}

// TestSnapshotStandsStill checks that a snapshot does not change while Apply goes on.
func TestSnapshotStandsStill(t *testing.T) {
	q := newQueue()
	for range 3 {
		apply(t, q, command{Op: "push", Body: "x", Key: fmt.Sprint(q.index)})
	}
	mustTake(t, q, 0, 1)
	s, err := q.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	var before, after bytes.Buffer
	s.WriteTo(&before)
	apply(t, q, command{Op: "ack", Job: 1, Lease: 4})
	mustTake(t, q, 0, 2)
	apply(t, q, command{Op: "push", Key: "new"})
	s.WriteTo(&after)
	if !bytes.Equal(before.Bytes(), after.Bytes()) {
		t.Errorf("the snapshot has changed:\n%s\n%s", &before, &after)
	}
}
