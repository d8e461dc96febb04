package log

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/baton-ha/baton/internal/core"
)

// backups is a state machine's, and one of a log without.
func backups(t *testing.T) (machine, bare []byte) {
	t.Helper()
	var out [][]byte
	for _, sm := range []StateMachine{&flaky{}, nil} {
		synctest.Test(t, func(t *testing.T) {
			s := newSolo(t, sm)
			if err := s.append(6); err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			info, err := s.Backup(t.Context(), "c", &b)
			if err != nil || info.Index != 7 || info.Epoch != 1 || info.Cluster != "c" {
				t.Fatalf("%+v, %v", info, err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			out = append(out, b.Bytes())
		})
	}
	return out[0], out[1]
}

func readSeed(b []byte) (*Seed, error) {
	s, err := ReadSeed(context.Background(), bytes.NewReader(b))
	if err == nil {
		err = s.Verify()
	}
	return s, err
}

// TestBackup_Damage: each byte of a backup that is another, each length at which it is cut off, and parts that are missing, double or in
// another place are found, and said to be what they are.
func TestBackup_Damage(t *testing.T) {
	machine, bare := backups(t)
	for _, b := range [][]byte{machine, bare} {
		if s, err := readSeed(b); err != nil || s.Info.Index != 7 {
			t.Fatal(s, err)
		}
		if _, err := readSeed(append(bytes.Clone(b), "more"...)); err != nil {
			t.Errorf("with something behind it: %v", err)
		}
		var bad *BackupError
		for i := range b {
			for _, flip := range []byte{1, 0x80, 0xff} {
				damaged := bytes.Clone(b)
				damaged[i] ^= flip
				if _, err := readSeed(damaged); !errors.As(err, &bad) || bad.Offset > int64(i) {
					t.Fatalf("byte %d of %d is another: %v", i, len(b), err)
				}
			}
			if _, err := readSeed(b[:i]); !errors.As(err, &bad) || !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("%d of %d bytes: %v", i, len(b), err)
			}
		}
		parts := partsOf(b)
		if len(parts) != 3 {
			t.Fatalf("%d parts", len(parts))
		}
		for _, order := range [][]int{{0, 2}, {0, 1, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2}, {0, 0, 1, 2}} {
			var spoilt []byte
			for _, i := range order {
				spoilt = append(spoilt, parts[i]...)
			}
			if _, err := readSeed(spoilt); !errors.As(err, &bad) {
				t.Errorf("parts %v: %v", order, err)
			}
		}
	}
	if _, err := readSeed(append(bytes.Clone(machine[:len(partsOf(machine)[0])]), bare[len(partsOf(bare)[0]):]...)); !errors.As(err, new(*BackupError)) {
		t.Errorf("the head of one and the rest of another: %v", err)
	}
}

// partsOf cuts a backup into its header and its frames.
func partsOf(b []byte) (parts [][]byte) {
	number := func(at int) int {
		return int(b[at]) | int(b[at+1])<<8 | int(b[at+2])<<16 | int(b[at+3])<<24
	}
	for size := 16 + number(12) + 4; ; size = 8 + number(4) + 4 {
		parts, b = append(parts, b[:size]), b[size:]
		if len(b) == 0 {
			return parts
		}
	}
}

// TestBackup_Unread: errors of the reader are told as they are, and are no damage.
func TestBackup_Unread(t *testing.T) {
	machine, _ := backups(t)
	sick := errors.New("sick")
	for i := range machine {
		s, err := ReadSeed(t.Context(), io.MultiReader(bytes.NewReader(machine[:i]), errorReader{sick}))
		if err == nil {
			err = s.Verify()
		}
		if !errors.Is(err, sick) || errors.As(err, new(*BackupError)) {
			t.Fatalf("after %d bytes: %v", i, err)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	s, err := ReadSeed(ctx, bytes.NewReader(machine))
	if err != nil {
		t.Fatal(err)
	}
	if cancel(sick); !errors.Is(s.Verify(), sick) {
		t.Error("it is read on when ctx is over")
	}
}

type errorReader struct{ err error }

func (r errorReader) Read([]byte) (int, error) { return 0, r.err }

// TestBackup_Fresh: a backup has all that was applied when it was asked for, and waits for a checkpoint that is being
// written or fails; who asks learns why.
func TestBackup_Fresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sm := &flaky{}
		s := newSolo(t, sm)
		gate := make(chan struct{})
		sm.fails(func() (io.WriterTo, error) {
			return writes(func() (int64, error) { <-gate; return 0, nil }), nil
		})
		if err := s.append(15); err != nil { // one is being written
			t.Fatal(err)
		}
		sm.fails(nil)
		done := make(chan error, 1)
		var info BackupInfo
		go func() {
			var err error
			info, err = s.Backup(t.Context(), "c", io.Discard)
			done <- err
		}()
		synctest.Wait()
		select {
		case err := <-done:
			t.Fatalf("it is not waited for: %v", err)
		default:
		}
		close(gate)
		if err := <-done; err != nil || info.Index != 16 {
			t.Errorf("%+v, %v", info, err)
		}
		sick := errors.New("sick")
		sm.fails(func() (io.WriterTo, error) { return nil, sick })
		if err := s.append(1); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := s.Backup(t.Context(), "c", io.Discard); !errors.Is(err, sick) {
				t.Errorf("with a state machine that fails: %v", err)
			}
		}
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Millisecond, sick)
		defer cancel()
		if _, err := s.Backup(ctx, "c", io.Discard); !errors.Is(err, sick) {
			t.Errorf("with a ctx that ends: %v", err)
		}
		sm.fails(nil)
		time.Sleep(2 * maxCheckpointPause)
		if info, err := s.Backup(t.Context(), "c", io.Discard); err != nil || info.Index != 17 {
			t.Errorf("when it is well again: %+v, %v", info, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if _, err := s.Backup(t.Context(), "c", io.Discard); err == nil {
			t.Error("a closed log was backed up")
		}
	})
}

// slowWriter does something once, in the middle of a backup.
type slowWriter struct {
	io.Writer
	at int
	do func()
}

func (w *slowWriter) Write(b []byte) (int, error) {
	if w.at--; w.at == 0 {
		w.do()
	}
	return w.Writer.Write(b)
}

// TestBackup_Holds: while records are backed up the log is cut behind them only when there is too much of it, and then the backup says so.
// A state machine's backup holds nothing, and what is appended meanwhile disturbs neither.
func TestBackup_Holds(t *testing.T) {
	for _, much := range []bool{false, true} {
		for _, sm := range []StateMachine{&flaky{}, nil} {
			synctest.Test(t, func(t *testing.T) {
				s := newSolo(t, sm)
				if err := s.append(30); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				var b bytes.Buffer
				var first core.Base
				info, err := s.Backup(t.Context(), "c", &slowWriter{&b, 1, func() {
					synctest.Wait()
					first = s.store.oldest()
					for range map[bool]int{false: 2, true: 20}[much] {
						if err := s.append(15); err != nil {
							t.Error(err)
						}
						synctest.Wait()
					}
				}})
				if cut := s.store.oldest() != first; cut != (much || sm != nil) {
					t.Errorf("too much %v, machine %v: cut %v", much, sm != nil, cut)
				}
				switch {
				case sm == nil && much:
					if !errors.Is(err, ErrCompacted) {
						t.Errorf("cut under a backup: %v", err)
					}
				case err != nil || info.Index != 31:
					t.Errorf("machine %v: %+v, %v", sm != nil, info, err)
				default:
					if _, err := readSeed(b.Bytes()); err != nil {
						t.Error(err)
					}
				}
				for range 3 {
					if err := s.append(15); err != nil {
						t.Error(err)
					}
					synctest.Wait()
				}
				if s.store.oldest() == first {
					t.Error("it holds the log when it is over")
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// TestSeed: what a survivor has becomes a checkpoint and a log without its members' changes, and a first epoch above all of before, which
// moves a position as they should.
func TestSeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, sm := range []StateMachine{&flaky{}, nil} {
			s := newSolo(t, sm)
			if err := s.append(40); err != nil {
				t.Fatal(err)
			}
			change := MemberChange{Base: 1, Put: []Member{{ID: 2, Name: "b", Kind: KindObserver, Addr: "x:1"}}}
			if _, err := s.Reconfigure(t.Context(), change); err != nil {
				t.Fatal(err)
			}
			if err := s.append(3); err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			from := s.disk.Disk
			seed, err := SeedOf(t.Context(), from, "c", "a")
			if err != nil || seed.Info.Index != 44 || seed.Info.Epoch != 1 || len(seed.Info.Members) != 2 || seed.Committed > 44 {
				t.Fatalf("%+v, %v", seed, err)
			}
			boot, body, log := seed.Found(Member{ID: 9, Name: "n"}, [16]byte{7}, 1000)
			cp := must(core.ParseCheckpoint(boot))
			var state bytes.Buffer
			if err := body(&state); err != nil || sm != nil && state.String() != fmt.Sprint(cp.Position.Index) {
				t.Errorf("state %q at record %d, %v", state.String(), cp.Position.Index, err)
			}
			pos := cp.Position
			for e, err := range log {
				if err == nil && e.GetIndex() > pos.Raft {
					err = pos.Walk([]*raftpb.Entry{e})
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			if pos.Index != 44 || pos.Epoch().Epoch != 1000 || pos.Epoch().Holder != "n" || pos.ClusterID != [16]byte{7} ||
				len(pos.Roster.Members) != 1 || pos.Roster.Members[0].Name != "n" {
				t.Errorf("%+v", pos)
			}
		}
	})
}
