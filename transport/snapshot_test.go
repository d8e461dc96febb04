package transport

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/baton-ha/baton/internal/session"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

func snap(term uint64) *raftpb.Message {
	m := msg(raftpb.MsgSnap, "a", "b", term)
	m.Snapshot = &raftpb.Snapshot{Data: []byte("meta"), Metadata: &raftpb.SnapshotMetadata{Index: proto.Uint64(10), Term: proto.Uint64(1)}}
	return m
}

func noise(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(1, 2))
	for i := 0; i+8 <= n; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], r.Uint64())
	}
	return b
}

// fateOf reads what a receiver says to the end.
func fateOf(l *session.Link) error {
	for {
		if h, err := readAnswer(l); h == nil {
			return err
		}
	}
}

func TestSnapshot(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	paced := config("a")
	paced.SnapshotPace = func() int64 { asked.Add(1); return 1 << 30 }
	a, b := pair(t, paced, config("b"))
	for i, c := range []struct{ size, announced int }{
		{5<<20 + 17, 5<<20 + 17}, {2 * chunkSize, 2 * chunkSize}, {1, 1}, {0, 0}, {chunkSize + 5, -1},
	} {
		a.source, a.size = noise(c.size), int64(c.announced)
		a.send(snap(uint64(i + 1)))
		a.wait(t, "acknowledgement", func() bool { return len(a.sent) == i+1 })
		if err := a.fates()[i]; err != nil {
			t.Fatalf("size %d: %v", c.size, err)
		}
		b.wait(t, "body", func() bool { return len(b.bodies) == i+1 })
		if !bytes.Equal(b.bodies[i], a.source) || b.got[i].GetTerm() != uint64(i+1) || string(b.got[i].GetSnapshot().GetData()) != "meta" {
			t.Errorf("size %d: arrived changed", c.size)
		}
	}
	if got := asked.Load(); got != 21+2+1+0+2 {
		t.Errorf("it was asked %d times how fast chunks may be sent", got)
	}
}

// A receiver may read exactly the announced size, and has the end verified by then.
func TestSnapshotReadBySize(t *testing.T) {
	t.Parallel()
	a, b := pair(t, config("a"), config("b"))
	a.source = noise(3*chunkSize + 100)
	b.receive = func(body io.Reader) error {
		got := make([]byte, len(a.source))
		if _, err := io.ReadFull(body, got); err != nil {
			return err
		}
		if !body.(*snapshotBody).ended || !bytes.Equal(got, a.source) {
			return errors.New("not verified")
		}
		return nil
	}
	a.send(snap(1))
	a.wait(t, "fate", func() bool { return len(a.sent) == 1 })
	if a.fates()[0] != nil {
		t.Error(a.fates()[0])
	}
}

func TestSnapshotFailures(t *testing.T) {
	for _, c := range []struct {
		name, want string
		change     func(a, b *node)
	}{
		{"receiver says no at once", "disk full", func(a, b *node) {
			b.receive = func(io.Reader) error { return errors.New("disk full") }
		}},
		{"receiver says no at the end", "bad magic", func(a, b *node) {
			b.receive = func(body io.Reader) error { _, _ = io.Copy(io.Discard, body); return errors.New("bad magic") }
		}},
		{"receiver does not read to the end", "not read to its end", func(a, b *node) {
			b.receive = func(body io.Reader) error { _, err := body.Read(make([]byte, 10)); return err }
		}},
		{"no snapshot to send", "no snapshot here", func(a, b *node) { a.source = nil }},
		{"body too short", "announced", func(a, b *node) { a.size = int64(len(a.source) + 1) }},
		{"body too long", "announced", func(a, b *node) { a.size = int64(len(a.source) - 1) }},
		{"no such group", "no group", func(a, b *node) {
			g, err := a.Group(55, a.recorder)
			if err != nil {
				panic(err)
			}
			a.group = g
		}},
		{"nobody there", "refused", func(a, b *node) { b.Close() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a, b := pair(t, config("a"), config("b"))
			a.source = noise(8 << 20)
			c.change(a, b)
			a.send(snap(1))
			a.wait(t, "fate", func() bool { return len(a.sent) == 1 })
			if err := a.fates()[0]; err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if len(b.messages()) != 0 {
				t.Error("was delivered")
			}
		})
	}
}

func TestT17_SnapshotDamagedOnTheWay(t *testing.T) {
	t.Parallel()
	for _, at := range []int64{400, 1 << 20, 3<<20 - 100} {
		t.Run(fmt.Sprint(at), func(t *testing.T) { damagedAt(t, at) })
	}
}

func damagedAt(t *testing.T, at int64) {
	t.Helper()
	a, b := listen(t, config("a")), listen(t, config("b"))
	var hit atomic.Bool
	px := newProxy(t, b.self.Addr, func(_ int, offset int64, p []byte) {
		if i := at - offset; i >= 0 && i < int64(len(p)) && hit.CompareAndSwap(false, true) {
			p[i] ^= 0x10
		}
	})
	a.start(t, peerAt("b", px.Addr().String()))
	b.start(t, a.self)
	a.connected(t)
	a.source = noise(3 << 20)
	a.send(snap(1))
	a.wait(t, "fate", func() bool { return len(a.sent) == 1 })
	if a.fates()[0] == nil || !hit.Load() {
		t.Errorf("damage at %d: no error", at)
	}
	if len(b.messages()) != 0 {
		t.Errorf("damage at %d: was delivered", at)
	}
	a.send(snap(2))
	a.wait(t, "second fate", func() bool { return len(a.sent) == 2 })
	if a.fates()[1] != nil {
		t.Errorf("second try: %v", a.fates()[1])
	}
}

func TestSnapshotCutAndSuperseded(t *testing.T) {
	t.Parallel()
	a, b, px := throughProxy(t)
	a.source = noise(8 << 20)
	begun := make(chan struct{}, 10)
	b.receive = func(body io.Reader) error {
		_, err := body.Read(make([]byte, 1))
		begun <- struct{}{}
		if err == nil {
			_, err = io.Copy(io.Discard, slow{body})
		}
		return err
	}
	a.send(snap(1))
	<-begun
	px.cut()
	a.wait(t, "cut is reported", func() bool { return len(a.sent) == 1 && a.sent[0] != nil })

	a.source = noise(1 << 20)
	a.send(snap(2))
	<-begun
	a.send(newer(3), newer(4))
	a.wait(t, "three fates", func() bool { return len(a.sent) == 4 })
	for i, m := range a.sentOf[1:] { // each is told of its own
		if err := a.sent[i+1]; errors.Is(err, ErrSuperseded) != (m.GetTerm() < 4) {
			t.Errorf("term %d: %v", m.GetTerm(), err)
		}
	}
	if a.fates()[3] != nil {
		t.Errorf("fates %v", a.fates()[1:])
	}
}

// newer is a message with another snapshot than that of snap.
func newer(term uint64) *raftpb.Message {
	m := snap(term)
	m.Snapshot.Metadata.Index = proto.Uint64(11)
	return m
}

// A leader that has lost and regained leadership sends the same snapshot in a newer term: what is on its way goes on, and
// arrives as the newer message. So the receiver gets it however often that happens.
func TestSnapshotGoesOnInNewTerm(t *testing.T) {
	t.Parallel()
	a, b := pair(t, config("a"), config("b"))
	a.source = noise(16 << 20)
	begun, release := make(chan struct{}, 9), make(chan struct{})
	var taken []byte
	b.receive = func(body io.Reader) error {
		begun <- struct{}{}
		<-release
		var err error
		taken, err = io.ReadAll(body)
		if term := body.(*snapshotBody).m.GetTerm(); err == nil && term != 9 {
			err = fmt.Errorf("arrived in term %d", term)
		}
		return err
	}
	a.send(snap(2))
	<-begun
	for term := uint64(3); term <= 9; term++ {
		a.send(snap(term))
	}
	close(release)
	a.wait(t, "fates", func() bool { return len(a.sent) == 8 })
	for i, m := range a.sentOf {
		if last := m.GetTerm() == 9; last != (a.sent[i] == nil) || !last && !errors.Is(a.sent[i], ErrSuperseded) {
			t.Errorf("term %d: %v", m.GetTerm(), a.sent[i])
		}
	}
	if !bytes.Equal(taken, a.source) || len(begun) != 0 {
		t.Errorf("%d bytes taken, %d more transfers", len(taken), len(begun))
	}
}

// A sender that stands still is given up after SnapshotTimeout, and so is one that trickles, however long it could go on;
// one that is merely slower than usual is not.
func TestSnapshotSenderTrickles(t *testing.T) {
	t.Parallel()
	cfg := config("b")
	cfg.SnapshotTimeout, cfg.SnapshotRate = 2*time.Second, 256<<10
	b := listen(t, cfg)
	b.start(t, peerAt("a", "127.0.0.1:1"))
	sender, body := session.NewEndpoint(config("a").SessionConfig), noise(3<<20)
	for _, c := range []struct {
		what  string
		chunk int
		every time.Duration
		ok    bool
	}{
		{"stands still", 10, 10 * time.Second, false}, {"trickles", 1000, 20 * time.Millisecond, false}, {"slow", 100_000, 20 * time.Millisecond, true},
	} {
		t.Run(c.what, func(t *testing.T) {
			l, err := sender.Dial(t.Context(), b.self, PurposeSnapshot)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			done := make(chan error, 1)
			go func() { done <- fateOf(l) }()
			head, err := appendMessage(nil, session.KindSnapshot, 7, binary.BigEndian.AppendUint64(nil, uint64(len(body))), snap(1))
			if err != nil {
				t.Fatal(err)
			}
			if err := l.Send(head, patience); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			answered := false
			from := l.Send(session.AppendFrame(nil, session.KindFrom, 7, make([]byte, fromSize)), patience)
			for sent := 0; sent < len(body) && !answered && from == nil; sent += c.chunk {
				chunk := body[sent:min(sent+c.chunk, len(body))]
				if l.Send(session.AppendFrame(nil, session.KindChunk, 7, chunk), patience) != nil {
					break
				}
				if sent+c.chunk >= len(body) {
					end := appendEnd(nil, int64(len(body)), crc32.Checksum(body, castagnoli), 1)
					_ = l.Send(session.AppendFrame(nil, session.KindEnd, 7, end), patience)
				}
				select {
				case err = <-done:
					answered = true
				case <-time.After(c.every):
				}
			}
			if !answered {
				err = <-done
			}
			if took := time.Since(began); (err == nil) != c.ok || took > patience {
				t.Errorf("%v after %v", err, took)
			}
		})
	}
}

// Chunks that are all right by themselves do not make a snapshot if one is missing, doubled or exchanged.
func TestT17_SnapshotChunksMissingOrExchanged(t *testing.T) {
	t.Parallel()
	b := listen(t, config("b"))
	b.start(t, peerAt("a", "127.0.0.1:1"))
	for _, c := range []struct {
		chunks string
		size   int64
		ok     bool
	}{
		{"xyz", 3, true}, {"xyz", -1, true}, {"xz", 3, false}, {"xz", -1, false}, {"xyyz", 3, false}, {"xyyz", -1, false},
		{"yxz", 3, false}, {"yxz", -1, false}, {"", 3, false},
	} {
		l, err := session.NewEndpoint(config("a").SessionConfig).Dial(t.Context(), b.self, PurposeSnapshot)
		if err != nil {
			t.Fatal(err)
		}
		out, err := appendMessage(nil, session.KindSnapshot, 7, binary.BigEndian.AppendUint64(nil, uint64(c.size)), snap(1))
		if err != nil {
			t.Fatal(err)
		}
		out = session.AppendFrame(out, session.KindFrom, 7, make([]byte, fromSize))
		for _, chunk := range c.chunks {
			out = session.AppendFrame(out, session.KindChunk, 7, []byte(string(chunk)))
		}
		end := appendEnd(nil, 3, crc32.Checksum([]byte("xyz"), castagnoli), 1)
		if err := l.Send(session.AppendFrame(out, session.KindEnd, 7, end), time.Second); err != nil {
			t.Fatal(err)
		}
		_ = l.SetReadDeadline(time.Now().Add(patience))
		if err := fateOf(l); (err == nil) != c.ok {
			t.Errorf("chunks %q of %d: %v", c.chunks, c.size, err)
		}
		l.Close()
	}
	if n := len(b.messages()); n != 2 {
		t.Errorf("%d delivered, want 2", n)
	}
}

// slow reads a MiB in some milliseconds.
type slow struct{ r io.Reader }

func (s slow) Read(p []byte) (int, error) { time.Sleep(time.Millisecond); return s.r.Read(p) }

// Heartbeats and appends pass while a snapshot fills the link.
func TestT10_SnapshotHoldsUpNothing(t *testing.T) {
	t.Parallel()
	a, b := pair(t, config("a"), config("b"))
	a.source = noise(16 << 20)
	begun, release := make(chan struct{}), make(chan struct{})
	b.receive = func(body io.Reader) error {
		close(begun)
		<-release
		_, err := io.Copy(io.Discard, body)
		return err
	}
	a.send(snap(1))
	<-begun
	delivers(t, a, b, "")
	close(release)
	a.wait(t, "fate", func() bool { return len(a.sent) == 1 })
	if a.fates()[0] != nil {
		t.Error(a.fates()[0])
	}
}

func TestSnapshotInFlightAtClose(t *testing.T) {
	t.Parallel()
	a, b := pair(t, config("a"), config("b"))
	a.source = noise(16 << 20)
	begun := make(chan struct{})
	b.receive = func(body io.Reader) error {
		close(begun)
		_, err := io.Copy(io.Discard, slow{body})
		return err
	}
	a.send(snap(1))
	<-begun
	a.Close()
	if len(a.fates()) != 1 || !errors.Is(a.fates()[0], ErrClosed) {
		t.Errorf("fates %v", a.fates())
	}
}
