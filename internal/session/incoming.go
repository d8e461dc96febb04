package session

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime/debug"
)

// read is the reader.
func (m *Mux) read() {
	for {
		f, err := m.l.Next(maxChunk)
		if err == nil {
			m.heard.Add(1)
			err = m.take(f)
		}
		if err != nil {
			m.end(err)
			return
		}
	}
}

// take takes one frame. It waits for nothing.
func (m *Mux) take(f Frame) error {
	switch f.Kind {
	case KindOpen:
		return m.opened(f)
	case KindPing, KindPong:
		if f.ID != 0 || len(f.Body) > 0 {
			return fmt.Errorf("%w: ping or pong with id %d and %d bytes", ErrFrame, f.ID, len(f.Body))
		}
		if f.Kind == KindPing {
			m.mu.Lock()
			m.pong = true
			m.mu.Unlock()
			Signal(m.wake)
		}
		return nil
	case KindData, KindSealed, KindFin, KindReset, KindCredit:
	case KindRefuse: // by the dialler, after our hello
		code, text, err := DecodeCoded(f.Body)
		if err != nil {
			return err
		}
		return &RefusedError{Peer: m.l.Peer.Name, Addr: m.l.Raw.RemoteAddr().String(), Code: Code(code), Text: text}
	default:
		return fmt.Errorf("%w: type %d on a connection for streams", ErrFrame, f.Kind)
	}
	m.mu.Lock()
	st, last := m.streams[f.ID], m.last
	m.mu.Unlock()
	if f.ID == 0 || f.ID > last {
		return fmt.Errorf("%w: type %d for stream %d, which nobody has opened", ErrFrame, f.Kind, f.ID)
	}
	switch f.Kind {
	case KindData:
		if len(f.Body) == 0 {
			return fmt.Errorf("%w: no data for stream %d", ErrFrame, f.ID)
		}
		return st.data(f.Body)
	case KindSealed:
		return m.sealed(st, f)
	case KindFin:
		if len(f.Body) > 0 {
			return fmt.Errorf("%w: end of stream %d with %d bytes", ErrFrame, f.ID, len(f.Body))
		}
		return st.fin()
	case KindReset:
		code, text, err := decodeReset(f.Body)
		if err != nil {
			return err
		}
		st.lost(&StreamError{Code: code, Text: text, Remote: true})
		return nil
	default:
		if len(f.Body) != 4 {
			return fmt.Errorf("%w: credit of %d bytes", ErrFrame, len(f.Body))
		}
		return st.more(binary.BigEndian.Uint32(f.Body))
	}
}

func decodeReset(body []byte) (StreamCode, string, error) {
	if len(body) > 2+maxStreamText {
		return 0, "", fmt.Errorf("%w: reset of %d bytes", ErrFrame, len(body))
	}
	code, text, err := DecodeCoded(body)
	return StreamCode(code), text, err
}

// opened takes a stream that the other side opens.
func (m *Mux) opened(f Frame) error {
	kind := string(f.Body)
	if m.dialled || !ValidKind(kind) {
		return fmt.Errorf("%w: stream %d of kind %.80q is opened", ErrFrame, f.ID, kind)
	}
	h, no := m.c.Accept(kind)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	if f.ID != m.last+1 {
		return fmt.Errorf("%w: stream %d is opened after %d", ErrFrame, f.ID, m.last)
	}
	m.last++
	switch {
	case no != nil:
	case m.closing:
		no = &StreamError{Code: StreamClosed, Text: "the session is closed"}
	case m.serving >= m.c.MaxStreams:
		no = &StreamError{Code: StreamBusy, Text: fmt.Sprintf("this session has %d streams", m.serving)}
	case !m.c.Budget.take(FirstWindow):
		no = &StreamError{Code: StreamBusy, Text: "no room is left for what another stream would bring"}
	}
	if no != nil {
		m.c.Counts.Refused.Add(1)
		m.appendLocked(KindReset, f.ID, no.body())
		return nil
	}
	st := newStream(context.Background(), m, kind)
	st.id = f.ID
	m.streams[st.id] = st
	m.serving++
	m.c.Counts.Served.Add(1)
	m.wg.Go(func() { m.serve(st, h) })
	return nil
}

// panicked logs a panic of what serves a stream, and is what the other side is told.
func (m *Mux) panicked(st *Stream, p any) *StreamError {
	m.c.Logger.Error("handler of a stream panicked", "kind", st.kind, "peer", m.l.Peer.Name, "panic", p, "stack", string(debug.Stack()))
	return &StreamError{Code: StreamFailed, Text: "what served it has panicked"}
}

// serve runs a handler to its end.
func (m *Mux) serve(st *Stream, h Handler) {
	var err error = &StreamError{Code: StreamFailed, Text: "what served it has ended its goroutine"}
	defer func() {
		if p := recover(); p != nil {
			err = m.panicked(st, p)
		}
		var coded *StreamError
		switch {
		case err == nil:
			st.Close()
		case errors.As(err, &coded):
			st.end(&StreamError{Code: coded.Code, Text: coded.Text}, true)
		default:
			st.end(&StreamError{Code: StreamFailed, Text: err.Error()}, true)
		}
		m.mu.Lock()
		m.serving--
		m.mu.Unlock()
	}()
	err = h(st.ctx, st)
}
