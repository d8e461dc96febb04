package session

import (
	"encoding/binary"
	"fmt"
)

// Write writes all of p, as io.Writer; it waits while the other side does not read, or the connection is full. Errors are those of
// Read.
func (st *Stream) Write(p []byte) (int, error) { return st.write(nil, p) }

// write writes head and p, and returns how much of p.
func (st *Stream) write(head, p []byte) (int, error) {
	written := 0
	for len(head)+len(p) > 0 {
		n, left, err := st.claim(min(len(head)+len(p), maxChunk))
		if err == nil {
			err = st.enter()
		}
		if err != nil {
			return written, err
		}
		h := min(n, len(head))
		if st.m.err == nil && !st.told {
			if h > 0 {
				st.m.dataLocked(st.id, head[:h])
			}
			if n > h {
				st.m.dataLocked(st.id, p[:n-h])
			}
		}
		st.sent.Add(uint64(n))
		head, p, written = head[h:], p[n-h:], written+n-h
		st.leave(len(head)+len(p) == 0 || left == 0)
	}
	return written, nil
}

// enter waits until the mux's out has room for a chunk, and locks the mux for it, until leave.
func (st *Stream) enter() error {
	if st.m.room(st.turn, st.over) == nil {
		return nil
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.err
}

// leave unlocks the mux. push says that this was the last chunk for now; where nothing could be put in, another may have its turn.
func (st *Stream) leave(push bool) {
	m := st.m
	defer m.mu.Unlock()
	if m.err != nil || st.told {
		m.turnsLocked(1)
	}
	switch {
	case st.lazy:
		Signal(m.wake)
	case push:
		m.pushLocked()
	}
}

// Sent is how many bytes were written so far. Any goroutine may ask.
func (st *Stream) Sent() uint64 { return st.sent.Load() }

// Together has what is written from now on leave together with what is written to other streams of the session at the same moment, for who
// has many of them to write to. It is to be called by who writes.
func (st *Stream) Together() { st.lazy = true }

// TryWrite writes as much of p as needs no waiting, and returns how much that is. What is left is to be written with Write, by whoever may
// write. Errors are those of Write.
func (st *Stream) TryWrite(p []byte) (written int, err error) {
	n, _, err := st.take(len(p))
	m := st.m
	m.mu.Lock()
	if m.err == nil && !st.told && len(m.queue) == 0 { // else Write says what it is, or waits behind others
		for written < n && len(m.out) < outBytes {
			some := min(n-written, maxChunk)
			m.dataLocked(st.id, p[written:][:some])
			written += some
		}
		st.sent.Add(uint64(written))
		m.pushLocked()
	}
	m.mu.Unlock()
	if written < n {
		st.mu.Lock()
		st.credit += int64(n - written)
		st.mu.Unlock()
	}
	return written, err
}

// take takes up to want of the credit, and returns how much is left.
func (st *Stream) take(want int) (n int, left int64, err error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	switch {
	case st.err != nil:
		return 0, 0, st.err
	case st.shut:
		return 0, 0, errStreamShut
	}
	n = int(min(int64(want), st.credit))
	st.credit -= int64(n)
	return n, st.credit, nil
}

// claim is take that waits until there is some.
func (st *Stream) claim(want int) (n int, left int64, err error) {
	for {
		if n, left, err = st.take(want); n > 0 || err != nil {
			return n, left, err
		}
		select {
		case <-st.writable:
		case <-st.over:
		}
	}
}

// Ready waits until something can be written without waiting for the other side to read, and returns how many bytes, or until the
// stream is over, and then returns its error. It is for whoever writes: what is to be written need not be made before, and not be
// held meanwhile.
func (st *Stream) Ready() (credit int64, err error) {
	for {
		st.mu.Lock()
		credit, err := st.credit, st.err
		if err == nil && st.shut {
			err = errStreamShut
		}
		st.mu.Unlock()
		if err != nil || credit > 0 {
			return credit, err
		}
		select {
		case <-st.writable:
		case <-st.over:
		}
	}
}

const prefixSize = 4

// Send writes one message, of any size below 4 GiB, for [Stream.Recv]: its length as uint32, and its bytes. msg is the
// caller's again when it returns.
func (st *Stream) Send(msg []byte) error {
	if uint64(len(msg)) > 1<<32-1 {
		return fmt.Errorf("session: message of %d bytes", len(msg))
	}
	var head [prefixSize]byte
	binary.BigEndian.PutUint32(head[:], uint32(len(msg)))
	_, err := st.write(head[:], msg)
	return err
}
