package session

import (
	"fmt"
	"io"
)

// A sealed frame carries data that has a checksum of its own, which was made where the data was and is verified where it is used: two more
// at the connection would find nothing that this one does not, and cost as much as copying it. So its body is covered by no
// checksum here; its header is. It is not gathered before it is given to its stream, but read to where the stream's reader wants it.
const (
	maxSealed = 256 << 10
	// directSize is what must be wanted for a read of its own.
	directSize = 16 << 10
	// briefSize is how much is read behind a sealed frame: what stands before the next one, and little of its body.
	briefSize = 4 << 10
)

// A source is what a FrameReader reads from.
type source struct {
	r     io.Reader
	come  []byte // before that: was read already
	brief bool   // the next read is of few bytes
	room  []byte // memory of what is read behind a sealed frame
}

func (s *source) Read(b []byte) (int, error) {
	if len(s.come) > 0 {
		n := copy(b, s.come)
		s.come = s.come[n:]
		return n, nil
	}
	if s.brief {
		b, s.brief = b[:min(len(b), briefSize)], false
	}
	return s.r.Read(b)
}

// readTo reads to b, at least a byte, and in the same call a little of what is behind that: so there is one call for each frame, where all of it has come.
// Nothing may have been read already.
func (s *source) readTo(b []byte) (int, error) {
	r, ok := s.r.(pairReader)
	if !ok {
		return s.r.Read(b)
	}
	if s.room == nil {
		s.room = make([]byte, briefSize)
	}
	n, err := r.readPair(b, s.room)
	if n > len(b) {
		s.come, n = s.room[:n-len(b)], len(b)
	}
	return n, err
}

// come returns up to n of the bytes that were read already, at least one if none were. They are valid until the next call.
func (fr *FrameReader) come(n int) ([]byte, error) {
	if fr.r.Buffered() == 0 {
		if _, err := fr.r.Peek(1); err != nil {
			return nil, err
		}
	}
	return fr.peek(min(n, fr.r.Buffered()))
}

// empty says that nothing was read that was not used.
func (fr *FrameReader) empty() bool { return fr.r.Buffered() == 0 && len(fr.in.come) == 0 }

// sealed takes a sealed frame, as it comes. st is nil when it is over.
func (m *Mux) sealed(st *Stream, f Frame) error {
	n := f.Sealed
	if n <= 0 || n > maxSealed {
		return fmt.Errorf("%w: %d bytes of sealed data for stream %d", ErrFrame, n, f.ID)
	}
	if st != nil {
		st.mu.Lock()
		err := st.comesLocked(n)
		st.mu.Unlock()
		if err != nil {
			return err
		}
	}
	r := m.l.r
	for n > 0 {
		var b []byte
		if r.empty() {
			b = st.wanted(n)
		}
		var err error
		direct := len(b) >= min(n, directSize)
		if direct {
			var got int
			got, err = r.in.readTo(b)
			b = b[:got]
		} else {
			b, err = r.come(n)
		}
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		m.heard.Add(1)
		n -= len(b)
		r.in.brief = n == 0 && f.Sealed >= directSize
		st.put(b, direct)
	}
	return nil
}

// wanted is where up to n bytes are wanted. They are put there without the lock, which harms nobody: who waits for them uses none before put
// says that they are there, and none at all if the stream ends before.
func (st *Stream) wanted(n int) []byte {
	if st == nil {
		return nil
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.err != nil || st.asm == nil {
		return nil
	}
	b := st.asm.room()
	return b[:min(n, len(b))]
}

// put takes a piece of a sealed frame, which is already where it was wanted if there says so.
func (st *Stream) put(b []byte, there bool) {
	if st == nil {
		return
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	switch {
	case st.err != nil:
	case !there:
		st.putLocked(b)
	default:
		st.placedLocked(0, len(b))
	}
}
