package ha

import (
	"context"
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/baton-ha/baton/fence"
)

// ample is a state of 6 MiB.
type ample struct{}

func (ample) Apply([]Entry) error            { return nil }
func (ample) Snapshot() (io.WriterTo, error) { return ample{}, nil }
func (ample) Restore(r io.Reader) error      { _, err := io.Copy(io.Discard, r); return err }

func (ample) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(make([]byte, 6<<20))
	return int64(n), err
}

// TestG8_SnapshotForNewcomerYields: while a newcomer gets a snapshot and somebody appends, the leader says how fast it is to be sent.
func TestG8_SnapshotForNewcomerYields(t *testing.T) {
	t.Parallel()
	tokens := make(chan fence.Token, 1)
	open := func(name string, members ...Member) (*Node, Member) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		self := Member{Name: name, Addr: ln.Addr().String()}
		n, err := Open(Config{
			Name: name, Dir: filepath.Join(t.TempDir(), name), Cluster: "shop", Members: append(members, self), Join: len(members) > 0, Logger: quiet,
			Listener: ln, Heartbeat: 200 * time.Millisecond, ElectionTimeout: 15 * time.Second, // so that no busy machine ends the role
			StateMachine: ample{}, CacheBytes: 16 << 10, CheckpointBytes: 128 << 10, RetainBytes: 64 << 10,
			OnActive: func(_ context.Context, token fence.Token) error { tokens <- token; return nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { n.Close() })
		return n, self
	}
	a, first := open("a")
	token := <-tokens
	for a.Stats().Log.First <= 1 { // until the log is cut
		if _, err := a.Append(t.Context(), token, make([]byte, 64<<10)); err != nil {
			t.Fatal(err)
		}
	}
	b, second := open("b", first)
	second.Kind = KindObserver
	added := make(chan error, 1)
	go func() { added <- a.AddMember(t.Context(), second) }()
	said := false
	for deadline := time.Now().Add(time.Minute); b.Status().Applied == 0; {
		if _, err := a.Append(t.Context(), token, []byte("x")); err != nil {
			t.Fatal(err)
		}
		rate := a.log.SnapshotRate()
		said = said || rate > 0 && a.transportConfig(beginning{}).SnapshotPace() > 0
		if time.Now().After(deadline) {
			t.Fatal("the newcomer has nothing after a minute")
		}
	}
	if !said {
		t.Error("the leader does not say how fast the snapshot is to be sent")
	}
	if err := <-added; err != nil {
		t.Error(err)
	}
}
