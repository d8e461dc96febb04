package session

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// script is a connection whose other side has written everything and reads everything.
type script struct {
	net.Conn // nil: nothing else is called
	r        *bytes.Reader
}

func (script) RemoteAddr() net.Addr { return new(net.TCPAddr) }

func (s script) Read(p []byte) (int, error)       { return s.r.Read(p) }
func (s script) Write(p []byte) (int, error)      { return len(p), nil }
func (s script) Close() error                     { return nil }
func (s script) SetWriteDeadline(time.Time) error { return nil }

// FuzzMux lets the other side of a session say anything, in frames whose checksums are right. Each is 4 bytes of the input, type, id
// and length, and a body from what follows.
func FuzzMux(f *testing.F) {
	op := func(b []byte, k Kind, id byte, body []byte) []byte {
		return append(binary.BigEndian.AppendUint16(append(b, byte(k), id), uint16(len(body))), body...)
	}
	talk := op(op(op(op(nil, KindOpen, 1, []byte("echo")), KindData, 1, []byte("hello")), KindCredit, 1, []byte{0, 0, 1, 0}), KindFin, 1, nil)
	f.Add(talk, true)
	f.Add(op(op(talk, KindOpen, 2, []byte("hold")), KindReset, 2, []byte{0, 1, 'x'}), true)
	f.Add(op(op(nil, KindPing, 0, nil), KindPong, 0, nil), false)
	f.Add(op(op(op(nil, KindOpen, 1, []byte("count")), KindSealed, 1, bytes.Repeat([]byte{7}, 5000)), KindFin, 1, nil), true)
	f.Add(op(nil, KindSealed, 1, []byte{0, 0, 0, 2, 1, 1}), false)
	f.Add(op(nil, KindReset, 1, []byte{0, 3}), false)
	f.Add(op(op(nil, KindOpen, 1, []byte("count")), KindData, 1, bytes.Repeat([]byte{7}, 1000)), true)
	f.Fuzz(func(t *testing.T, in []byte, listens bool) {
		var b []byte
		for len(in) >= 4 {
			k, id, n := Kind(in[0]), uint64(in[1]), min(int(binary.BigEndian.Uint16(in[2:])), len(in)-4)
			b, in = AppendFrame(b, k, id, in[4:4+n]), in[4+n:]
		}
		b = append(b, in...)
		budget := NewBudget(1 << 20)
		wait := func(ctx context.Context, st *Stream) error { <-ctx.Done(); return ctx.Err() }
		conn := script{r: bytes.NewReader(b)}
		m := NewMux(NewLink(conn, conn), !listens, StreamConfig{Budget: budget, MaxStreams: 8, Accept: kinds(map[string]Handler{
			"echo": echo, "hold": wait, "count": func(_ context.Context, st *Stream) error {
				n, err := io.Copy(io.Discard, st)
				if err != nil {
					return err
				}
				return st.Send(binary.BigEndian.AppendUint64(nil, uint64(n)))
			},
		})})
		if !listens {
			if st, err := m.Open(context.Background(), "x"); err == nil {
				_, _ = st.Recv(1 << 10)
				st.Close()
			}
		}
		<-m.Done()
		m.Close()
		if err := m.Err(); !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, ErrFrame) && !errors.As(err, new(*RefusedError)) {
			t.Errorf("ended with %v", err)
		}
		if left := budget.left.Load(); left != 1<<20 {
			t.Errorf("%d bytes of the budget are held after the end", 1<<20-left)
		}
	})
}
