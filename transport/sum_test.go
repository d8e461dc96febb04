package transport

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"

	"github.com/baton-ha/baton/internal/session"
	"github.com/baton-ha/baton/internal/sum"
	"github.com/baton-ha/baton/internal/testseed"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

func checked(body []byte) (uint32, bool) { return sumBody(body, sum.Check) }

// batchOf returns sealed data of n bytes.
func batchOf(n int) []byte {
	b := bytes.Repeat([]byte("baton "), n/6+1)[:n]
	sum.Seal(b)
	return b
}

// appOf returns a message with an entry of each data.
func appOf(data ...[]byte) *raftpb.Message {
	m := app("a", "b", 5, nil)
	m.Entries = nil
	for i, d := range data {
		m.Entries = append(m.Entries, &raftpb.Entry{Index: new(uint64(6 + i)), Term: new(uint64(1)), Data: d})
	}
	return m
}

// readFrame reads one frame as the reader of a connection does.
func readFrame(frame []byte, by session.Summer) error {
	fr := session.NewFrameReader(bytes.NewReader(frame))
	fr.SumBy(by)
	_, err := fr.Next(1 << 20)
	return err
}

// TestSumBody: a message's checksum is that of its bytes, derived or read, whatever it holds.
func TestSumBody(t *testing.T) {
	r := testseed.Rand(t)
	for i := range 2000 {
		m := randomMessage(r)
		for _, e := range m.Entries {
			if r.IntN(2) == 0 && len(e.Data) > sum.Head {
				sum.Seal(e.Data)
			} else if len(e.Data) > 0 {
				e.Data[0] = 1
			}
		}
		if len(m.Entries) > 0 && i%20 == 0 {
			m.Entries[0].Data = batchOf(5000 + i)
		}
		body, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if i%3 == 0 && len(body) > 0 { // what cannot be decoded
			body = body[:r.IntN(len(body))]
		}
		want := sum.Update(0, body)
		derived, _ := sumBody(body, believed)
		got, sound := checked(body)
		if derived != want || got != want || !sound {
			t.Fatalf("message %d: derived %08x, read %08x (%v), want %08x: %v", i, derived, got, sound, want, m)
		}
	}
}

// TestTrain: what is written of messages whose large data is left where it is, is what is written of copies.
func TestTrain(t *testing.T) {
	r := testseed.Rand(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	out, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	in, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	conn := session.NewLink(out, out)
	if !mayLeave(conn) {
		t.Error("nothing may be left on plain TCP")
	}
	copies, leaves := new(train), &train{apart: true}
	for range 30 {
		copies.empty()
		leaves.empty()
		wanted := 0
		for number := range uint16(1 + r.IntN(4)) {
			m := randomMessage(r)
			for _, e := range m.Entries {
				switch r.IntN(4) {
				case 0:
					e.Data = batchOf(apartSize + r.IntN(20_000))
				case 1:
					e.Data = bytes.Repeat([]byte{1}, apartSize-1+r.IntN(2))
				}
				if m.Snapshot == nil && len(e.Data) >= apartSize {
					wanted++
				}
			}
			for _, x := range []*train{copies, leaves} {
				if err := x.add(7, number, m); err != nil {
					t.Fatal(err)
				}
			}
		}
		if len(copies.left) != 0 || len(leaves.left) != wanted || copies.size != len(copies.b) || leaves.size != copies.size {
			t.Fatalf("%d and %d of %d left; %d and %d bytes", len(copies.left), len(leaves.left), wanted, copies.size, leaves.size)
		}
		written := make(chan error, 1)
		go func() { written <- leaves.writeTo(conn) }()
		got := make([]byte, copies.size)
		if _, err := io.ReadFull(in, got); err != nil {
			t.Fatal(err)
		}
		if err := <-written; err != nil || !bytes.Equal(got, copies.b) {
			t.Fatalf("what was left is written otherwise than what was copied: %v", err)
		}
	}
}

// TestMutate_Frame: records that are not what was appended do not get off a connection, whether their sender has summed them
// as they are or as they were, and whichever bit it is.
func TestMutate_Frame(t *testing.T) {
	for _, size := range []int{60, 5000} {
		good := batchOf(size)
		if err := readFrame(messageFrame(t, appOf(nil, good, []byte{2, 3})), checked); err != nil {
			t.Fatalf("good records: %v", err)
		}
		for bit := 8 * 1; bit < 8*size; bit += 1 + bit/100 {
			bad := bytes.Clone(good)
			bad[bit/8] ^= 1 << (bit % 8)
			m := appOf(nil, bad, []byte{2, 3})
			frame := messageFrame(t, m)
			if err := readFrame(frame, checked); !errors.Is(err, session.ErrFrame) {
				t.Fatalf("bit %d of %d bytes, summed as they were: %v", bit, size, err)
			}
			session.SealFrame(frame, session.KindMessage, 7)
			if err := readFrame(frame, checked); !errors.Is(err, session.ErrFrame) {
				t.Fatalf("bit %d of %d bytes, summed as they are: %v", bit, size, err)
			}
		}
	}
}

// TestMutate_DamagedMessage: damaged records that another member sends are not delivered, and what it sends on a new connection is.
func TestMutate_DamagedMessage(t *testing.T) {
	t.Parallel()
	a, b := listen(t, config("a")), listen(t, config("b"))
	a.start(t, b.self)
	b.start(t, a.self)
	a.connected(t)
	for i, size := range []int{60, 5000, inlineSize + 5000} {
		good := batchOf(size)
		bad := bytes.Clone(good)
		bad[size/2] ^= 0x55
		a.connected(t)
		index := uint64(10 * i)
		a.send(app("a", "b", index, bad))
		eventually(t, "the good records are there", func() bool {
			a.send(app("a", "b", index+1, good)) // again, while there is no connection it is lost
			got := b.messages()
			return len(got) > 0 && got[len(got)-1].GetIndex() == index+1
		})
	}
	for _, m := range b.messages() {
		if m.GetIndex()%10 == 0 {
			t.Fatalf("message %d is delivered with damaged records", m.GetIndex())
		}
	}
}

// TestT17_FrameEveryBitOfBatch: any flipped bit on the way is an error where the checksum of the frame is that of a batch, too.
func TestT17_FrameEveryBitOfBatch(t *testing.T) {
	for _, size := range []int{60, 5000} {
		whole := messageFrame(t, appOf(batchOf(size), batchOf(40)))
		for bit := 0; bit < 8*len(whole); bit += 1 + bit/600 {
			b := bytes.Clone(whole)
			b[bit/8] ^= 1 << (bit % 8)
			if err := readFrame(b, checked); !errors.Is(err, session.ErrFrame) {
				t.Fatalf("bit %d of %d bytes flipped: %v", bit, len(whole), err)
			}
		}
	}
}
