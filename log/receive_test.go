package log

import (
	"log/slog"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// TestMutate_DamagedMessage: damaged records that another member sends do not get as far as the disk.
func TestMutate_DamagedMessage(t *testing.T) {
	l := &Log{cfg: Config{Clock: func() time.Duration { return time.Hour }, Logger: slog.New(slog.DiscardHandler)}}
	l.inbox = inbox{wake: make(chan struct{}, 1), drained: make(chan struct{}, 1)}
	good := func() []byte { return encoded(7, 3, []byte("hello")) }
	send := func(data []byte) int {
		entries := []*raftpb.Entry{{Index: new(uint64(4))}, {Index: new(uint64(5)), Data: data}}
		l.Receive(&raftpb.Message{Type: new(raftpb.MsgApp), Entries: entries})
		events, _ := l.inbox.take()
		return len(events)
	}
	bad := good()
	bad[len(bad)-1] ^= 0x55
	if send(good()) != 1 {
		t.Error("good records are dropped")
	}
	if send(bad) != 0 {
		t.Error("damaged records are taken")
	}
}
