package log

import (
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/baton-ha/baton/internal/core"
	"github.com/baton-ha/baton/internal/sim"
)

// restored is a state machine that remembers what it was restored from.
type restored struct {
	calls int
	state string
	err   error
}

func (r *restored) Apply([]Entry) error            { return nil }
func (r *restored) Snapshot() (io.WriterTo, error) { return nil, nil }
func (r *restored) Restore(from io.Reader) error {
	b, err := io.ReadAll(from)
	r.calls, r.state = r.calls+1, string(b)
	return errors.Join(err, r.err)
}

// headerOf1 is a checkpoint's header as version 1 wrote it.
type headerOf1 struct {
	Version  int            `codec:"v"`
	Position core.Position  `codec:"p"`
	Base     core.Base      `codec:"b"`
	Terms    []core.TermRun `codec:"t"`
	Members  []Member       `codec:"m"`
}

// A checkpoint says itself whether a state follows, which may be of zero bytes. One of the first version does not,
// and must open.
func TestStateOfZeroBytes(t *testing.T) {
	sick := errors.New("sick")
	for _, test := range []struct {
		name    string
		version int
		kind    core.StateKind
		body    string
		index   uint64 // of the last record
		bare    bool   // opened without a state machine
		fails   error  // Restore does
		calls   int    // of Restore
		want    error
	}{
		{name: "a state", version: 2, kind: core.StateOf, body: "x", index: 7, calls: 1},
		{name: "an empty state", version: 2, kind: core.StateOf, index: 7, calls: 1},
		{name: "an empty state before the first record", version: 2, kind: core.StateOf, calls: 1},
		{name: "kept without", version: 2, kind: core.StateNone, index: 7, want: ErrStateMachine},
		{name: "kept without, no record", version: 2, kind: core.StateNone},
		{name: "kept without and opened without", version: 2, kind: core.StateNone, index: 7, bare: true},
		{name: "a state, opened without", version: 2, kind: core.StateOf, body: "x", index: 7, bare: true, want: ErrStateMachine},
		{name: "an empty state, opened without", version: 2, kind: core.StateOf, index: 7, bare: true, want: ErrStateMachine},
		{name: "version 1, a state", version: 1, body: "x", index: 7, calls: 1},
		{name: "version 1, an empty state or none", version: 1, index: 7, calls: 1},
		{name: "version 1, none after all", version: 1, index: 7, calls: 1, fails: sick, want: sick},
		{name: "version 1, no record", version: 1},
		{name: "version 1, opened without", version: 1, index: 7, bare: true},
		{name: "version 1, a state, opened without", version: 1, body: "x", index: 7, bare: true, want: ErrStateMachine},
		{name: "a newer version", version: core.CheckpointVersion + 1, index: 7, want: ErrFormat},
		{name: "a newer kind", version: 2, kind: 3, index: 7, want: ErrFormat},
	} {
		t.Run(test.name, func(t *testing.T) {
			pos, begin := core.Position{Raft: 9, Index: test.index}, core.Base{Raft: 9, Term: 1, Index: test.index}
			snap := core.NewSnapshot(1, core.Checkpoint{
				Version: test.version, Position: pos, Base: begin, Members: cutMembers, State: test.kind})
			if test.version == 1 {
				snap.Data = nil
				if err := codec.NewEncoderBytes(&snap.Data, new(codec.MsgpackHandle)).Encode(headerOf1{Version: 1, Position: pos, Base: begin, Members: cutMembers}); err != nil {
					t.Fatal(err)
				}
			}
			disk := sim.NewDisk(Boot(cutMembers))
			if err := errors.Join(disk.StageSnapshot(snap, strings.NewReader(test.body)), disk.InstallSnapshot(snap, nil)); err != nil {
				t.Fatal(err)
			}
			sm := &restored{state: "nothing", err: test.fails}
			cfg := Config{Storage: disk, StateMachine: sm, Clock: func() time.Duration { return time.Hour },
				Core: CoreConfig{ID: 1, Name: "a", Heartbeat: 50 * time.Millisecond, ElectionTimeout: time.Second}, Logger: slog.New(slog.DiscardHandler)}
			if test.bare {
				cfg.StateMachine = nil
			}
			_, err := Open(cfg)
			if !errors.Is(err, test.want) {
				t.Errorf("open: %v, want %v", err, test.want)
			}
			if sm.calls != test.calls || sm.calls > 0 && sm.state != test.body {
				t.Errorf("Restore was called %d times, with %q", sm.calls, sm.state)
			}
			// What a member cannot open it does not take from a leader either.
			begin.Raft = pos.Raft
			l := &Log{driver: driver{store: &Store{disk: cfg.Storage}}, cfg: cfg}
			l.inbox.wake, l.inbox.drained = make(chan struct{}, 1), make(chan struct{}, 1)
			if err := l.ReceiveSnapshot(&raftpb.Message{Snapshot: snap}, int64(len(test.body)), strings.NewReader(test.body)); test.want == ErrStateMachine != errors.Is(err, ErrStateMachine) {
				t.Errorf("receive: %v", err)
			}
		})
	}
}

// What a checkpoint says of its state is what the member has, also if the state machine captures nothing.
func TestCheckpointSaysWhatFollows(t *testing.T) {
	for _, test := range []struct {
		body io.WriterTo
		want core.StateKind
	}{{nil, core.StateNone}, {emptyState{}, core.StateOf}, {strings.NewReader("x"), core.StateOf}} {
		c := cutCore(t, sim.NewDisk(Boot(cutMembers)))
		check := NewCheckpointer(c.store, 1, 1)
		place, _ := check.Due(&core.Apply{Position: at(c, 50), Term: 2, Bytes: 100}, nil)
		if err := check.Save(place, test.body); err != nil {
			t.Fatal(err)
		}
		for _, snap := range []*raftpb.Snapshot{c.store.latest(), must(core.ForOthers(c.store.latest()))} {
			if cp := must(core.ParseCheckpoint(snap)); cp.State != test.want {
				t.Errorf("%T: says %d, want %d", test.body, cp.State, test.want)
			}
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
