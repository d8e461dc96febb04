//go:build linux

package state

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"

	"github.com/baton-ha/baton/ha"
)

// A Machine is the state of the program, built from the log on every member. It is an [ha.StateMachine]; its methods may be called by any goroutine.
// Apply never fails: a record that makes no sense has no effect, the same on every member.
type Machine struct {
	mu sync.Mutex // guards s; what it shares is never written to
	s  content
}

// content is the state at one record.
type content struct {
	records []record // of the program, since its last snapshot and with that
	bytes   int64    // they take
	parts   []record // of a snapshot that is not whole yet

	files     tree
	committed uint64 // the record that has committed them, 0: there was never a commit
	staged    []op   // of a commit that is not whole yet; the next one begins anew
	since     uint64 // its first record, 0 if there is none
}

// A record is one that the program has written.
type record struct {
	index uint64
	kind  byte
	value []byte // one line of JSON
}

// overhead is what a record, or a file, counts besides its content against the bound of the state.
const overhead = 64

func (r record) bytes() int64 { return int64(len(r.value)) + overhead }

// Apply implements [ha.StateMachine].
func (m *Machine) Apply(entries []ha.Entry) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range entries {
		m.s.apply(frame{e.Index, e.Data})
	}
	return nil
}

func (s *content) apply(f frame) {
	if len(f.data) == 0 {
		return
	}
	switch kind, data := f.data[0], f.data[1:]; kind {
	case kindRecord, kindSnapshot, kindFirst, kindPart, kindLast:
		if json.Valid(data) && !bytes.ContainsRune(data, '\n') {
			s.record(record{f.index, kind, data})
		}
	case kindFiles:
		if c, err := decodeChange(data); err == nil {
			s.change(f, c)
		}
	}
}

func (s *content) record(r record) {
	switch r.kind {
	case kindRecord:
		s.parts = nil
		s.records = append(s.records, r)
		s.bytes += r.bytes()
	case kindFirst:
		s.parts = []record{r}
	case kindPart:
		if len(s.parts) > 0 {
			s.parts = append(s.parts, r)
		}
	case kindLast:
		if len(s.parts) > 0 {
			s.replace(append(s.parts, r))
		}
	case kindSnapshot:
		s.replace([]record{r})
	}
}

// replace has records stand for all there were.
func (s *content) replace(records []record) {
	s.records, s.parts, s.bytes = records, nil, 0
	for _, r := range records {
		s.bytes += r.bytes()
	}
}

func (s *content) change(f frame, c change) {
	if c.First {
		s.staged, s.since = nil, f.index
	}
	if s.since == 0 {
		return // a piece without its beginning
	}
	s.staged = append(s.staged, c.Ops...)
	if !c.Last {
		return
	}
	if files, err := s.files.with(s.staged); err == nil {
		s.files, s.committed = files, f.index
	}
	s.staged, s.since = nil, 0
}

// recordsNow returns the records, and how many bytes they take.
func (m *Machine) recordsNow() ([]record, int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clip(m.s.records), m.s.bytes
}

// filesNow returns what was committed last, and by which record.
func (m *Machine) filesNow() (tree, uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.s.files, m.s.committed
}

// Snapshot implements [ha.StateMachine]. Nothing of what it captures is ever written to.
func (m *Machine) Snapshot() (io.WriterTo, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.s
	s.records, s.parts, s.staged = slices.Clip(s.records), slices.Clip(s.parts), slices.Clip(s.staged)
	return capture(s), nil
}

// A capture is the state at one record.
type capture content

// WriteTo implements [io.WriterTo].
func (s capture) WriteTo(to io.Writer) (int64, error) {
	w := &frames{w: bufio.NewWriterSize(to, 1<<16)}
	w.bytes([]byte(magic))
	for _, r := range s.records {
		w.record(r)
	}
	if s.committed > 0 {
		b := batch{emit: func(c change) error { return w.change(s.committed, c) }}
		for _, p := range slices.Sorted(maps.Keys(s.files)) {
			n := s.files[p]
			w.fail(b.add(op{Path: p, What: put, Mode: uint32(n.mode), Size: n.size}))
			for i, data := range n.pieces {
				if data != nil {
					w.fail(b.add(op{Path: p, What: write, At: int64(i) * pieceSize, Data: data}))
				}
			}
		}
		w.fail(b.end())
	}
	for _, r := range s.parts {
		w.record(r)
	}
	if s.since > 0 {
		w.fail(w.change(s.since, change{First: true, Ops: s.staged}))
	}
	w.frame(frame{}) // the end
	w.fail(w.w.Flush())
	return w.n, w.err
}

// Restore implements [ha.StateMachine].
func (m *Machine) Restore(r io.Reader) error {
	s, err := restore(r)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.s = s
	return nil
}

func restore(from io.Reader) (s content, err error) {
	r := bufio.NewReaderSize(from, 1<<16)
	head := make([]byte, len(magic))
	if _, err := io.ReadFull(r, head); err != nil || string(head) != magic {
		return s, fmt.Errorf("this is no state of an agent: %q, %w", head, err)
	}
	for {
		f, err := readFrame(r)
		if err != nil {
			return s, fmt.Errorf("state of an agent: %w", err)
		}
		if s.apply(f); len(f.data) == 0 {
			return s, nil
		}
	}
}

// frames writes frames, until one fails.
type frames struct {
	w   *bufio.Writer
	n   int64
	err error
}

func (w *frames) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}

func (w *frames) bytes(b []byte) {
	if w.err == nil {
		n, err := w.w.Write(b)
		w.n += int64(n)
		w.fail(err)
	}
}

func (w *frames) frame(f frame) { w.bytes(f.append(nil)) }

func (w *frames) record(r record) {
	w.frame(frame{r.index, append([]byte{r.kind}, r.value...)})
}

func (w *frames) change(index uint64, c change) error {
	data, err := c.encode()
	if err == nil {
		w.frame(frame{index, data})
		err = w.err
	}
	return err
}
