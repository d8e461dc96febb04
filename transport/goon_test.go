package transport

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/baton-ha/baton/internal/session"
)

// again is a body that can be read again.
type again struct {
	*bytes.Reader
	rewound *int
}

func (a again) Close() error { return nil }
func (a again) Rewind() error {
	*a.rewound++
	_, err := a.Seek(0, io.SeekStart)
	return err
}

// keeper receives snapshots and keeps what has broken off, as a storage does.
type keeper struct {
	mu    sync.Mutex // guards everything below
	have  []byte
	done  [][]byte
	began []int64 // where the bodies began
	cuts  []int   // when there is so much the connection is cut
	cut   func()
	why   error // of its own, then
}

func (k *keeper) receive(body io.Reader) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	from, err := body.(*snapshotBody).Resume(int64(len(k.have)), sha256.Sum256(k.have))
	if err != nil {
		return err
	}
	k.began = append(k.began, from)
	k.have = k.have[:from]
	buf := make([]byte, 64<<10)
	for {
		n, err := body.Read(buf)
		k.have = append(k.have, buf[:n]...)
		switch {
		case len(k.cuts) > 0 && len(k.have) >= k.cuts[0]:
			k.cuts = k.cuts[1:]
			k.cut()
			return k.why
		case err == io.EOF:
			k.done, k.have = append(k.done, k.have), nil
			return nil
		case err != nil:
			return err
		}
	}
}

// TestSnapshotGoesOn: a connection is cut at many places of a snapshot, which goes on where it was and arrives as it is, once. Raft is
// told of one fate.
func TestSnapshotGoesOn(t *testing.T) {
	t.Parallel()
	ca := config("a")
	ca.Backoff = time.Millisecond
	a, b := listen(t, ca), listen(t, config("b"))
	sent := noise(6 << 20)
	px := newProxy(t, b.self.Addr, passed)
	k := keeper{cuts: []int{1, 300 << 10, 1 << 20, 2<<20 + 5, 5 << 20, len(sent)}, cut: px.cut, why: errors.New("cut off")}
	b.receive = k.receive
	a.start(t, peerAt("b", px.Addr().String()))
	b.start(t, a.self)
	a.connected(t)
	rewound := 0
	a.source, a.body = sent, again{bytes.NewReader(sent), &rewound}
	a.send(snap(1))
	a.wait(t, "fate", func() bool { return len(a.sent) == 1 })
	if err := a.fates()[0]; err != nil {
		t.Fatal(err)
	}
	if len(k.done) != 1 || !bytes.Equal(k.done[0], sent) {
		t.Fatalf("%d bodies arrived", len(k.done))
	}
	whole := 0
	for _, from := range k.began {
		if from == 0 {
			whole++
		}
	}
	stats := a.Stats().Peers[0].Snapshots
	if len(k.cuts) > 0 || len(k.began) != 7 || whole > 1 || stats.Broken < 6 || stats.SkippedBytes == 0 || stats.Sent != 1 || stats.Failed != 0 {
		t.Errorf("bodies began at %v; %+v", k.began, stats)
	}
	if stats.Sending != (Progress{}) || b.Stats().Peers[0].Snapshots.Receiving != (Progress{}) {
		t.Errorf("it still goes on: %+v", stats)
	}
}

// TestSnapshotOutlivesItsReceiver: a receiver that is being closed while its connections still stand says nothing of the snapshot, which goes on
// when it is back.
func TestSnapshotOutlivesItsReceiver(t *testing.T) {
	t.Parallel()
	a, b := pair(t, config("a"), config("b"))
	sent, rewound := noise(3<<20), 0
	k := keeper{cuts: []int{1 << 20, 2 << 20}, cut: func() {}, why: fmt.Errorf("staging: %w", net.ErrClosed)}
	b.receive = k.receive
	a.source, a.body = sent, again{bytes.NewReader(sent), &rewound}
	a.send(snap(1))
	a.wait(t, "fate", func() bool { return len(a.sent) == 1 })
	if err := a.fates()[0]; err != nil || len(k.done) != 1 || !bytes.Equal(k.done[0], sent) {
		t.Errorf("%d bodies arrived, %v", len(k.done), err)
	}
	if len(k.began) != 3 || k.began[1] < 1<<20 || k.began[2] < 2<<20 {
		t.Errorf("bodies began at %v", k.began)
	}
}

// TestSnapshotOfAnotherBody: what the receiver has is not how the body begins: it is sent from its beginning.
func TestSnapshotOfAnotherBody(t *testing.T) {
	t.Parallel()
	a, b := pair(t, config("a"), config("b"))
	sent := noise(3 << 20)
	for _, had := range [][]byte{noise(1 << 20)[8:], append(bytes.Clone(sent), 1), append(bytes.Clone(sent[:1000]), 'x')} {
		k := keeper{have: had}
		b.receive = k.receive
		rewound := 0
		a.source, a.body = sent, again{bytes.NewReader(sent), &rewound}
		before := len(a.fates())
		a.send(snap(uint64(before + 1)))
		a.wait(t, "fate", func() bool { return len(a.sent) == before+1 })
		if err := a.fates()[before]; err != nil || len(k.done) != 1 || !bytes.Equal(k.done[0], sent) || k.began[0] != 0 {
			t.Errorf("began at %v, %v", k.began, err)
		}
	}
	k := keeper{have: bytes.Clone(sent[:1<<20])}
	b.receive = k.receive
	rewound := 0
	a.body = again{bytes.NewReader(sent), &rewound}
	before := len(a.fates())
	a.send(snap(9))
	a.wait(t, "fate", func() bool { return len(a.sent) == before+1 })
	if err := a.fates()[before]; err != nil || !bytes.Equal(k.done[0], sent) || k.began[0] != 1<<20 || rewound != 0 {
		t.Errorf("began at %v, read again %d times, %v", k.began, rewound, err)
	}
}

// TestSnapshotIsGivenUp: a receiver that loses what it has each time is not sent the same snapshot for ever.
func TestSnapshotIsGivenUp(t *testing.T) {
	t.Parallel()
	ca := config("a")
	ca.Backoff = time.Millisecond
	a, b := listen(t, ca), listen(t, config("b"))
	px := newProxy(t, b.self.Addr, passed)
	times := 0
	b.receive = func(body io.Reader) error {
		if times++; times > 20 {
			return errors.New("for ever")
		}
		_, _ = io.CopyN(io.Discard, body, 1<<20)
		px.cut()
		_, err := io.Copy(io.Discard, body)
		return err
	}
	a.start(t, peerAt("b", px.Addr().String()))
	b.start(t, a.self)
	a.connected(t)
	sent, rewound := noise(16<<20), 0
	a.source, a.body = sent, again{bytes.NewReader(sent), &rewound}
	a.send(snap(1))
	a.wait(t, "fate", func() bool { return len(a.sent) == 1 })
	if err := a.fates()[0]; err == nil || errors.Is(err, ErrSnapshotNotTaken) {
		t.Error(err)
	}
}

// TestSnapshotToOlderVersion: a receiver of the version before says nothing of what it has, and gets all.
func TestSnapshotToOlderVersion(t *testing.T) {
	b := snapshotBody{l: &session.Link{Peer: Hello{Version: goOnVersion - 1}}, size: 3}
	if from, err := b.Resume(2, [32]byte{}); from != 0 || err != nil {
		t.Error(from, err)
	}
	if _, err := b.Resume(2, [32]byte{}); err == nil {
		t.Error("it was said twice")
	}
}

// TestPacer: bytes pass at the rate, of all together, and a ctx that ends is not waited for.
func TestPacer(t *testing.T) {
	p := pacer{most: 10 << 20}
	began := time.Now()
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 4 {
				if err := p.wait(t.Context(), 64<<10); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if took := time.Since(began); took < 90*time.Millisecond {
		t.Errorf("a MiB has passed in %v", took)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_ = p.wait(ctx, 100<<20)
	if err := p.wait(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	slower := pacer{most: 1 << 40, now: func() int64 { return 1 << 20 }}
	_ = slower.wait(t.Context(), 1<<20)
	if err := slower.wait(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Error("at present it is slower:", err)
	}
	for _, p := range []*pacer{{most: 5}, {most: 5, now: func() int64 { return 0 }}, {most: 5, now: func() int64 { return 7 }}, {now: func() int64 { return 5 }}} {
		if got := p.rate(); got != 5 {
			t.Errorf("at most %d a second, and it is %d", p.most, got)
		}
	}
	free := pacer{now: func() int64 { return 0 }}
	for range 1000 {
		_ = free.wait(t.Context(), 1<<30)
	}
}
