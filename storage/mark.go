package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"sync"
	"time"
)

const (
	markSize     = 8192
	markSlot     = 4096 // slots are a page apart: one torn write cannot hit both
	markBytes    = 100
	markMagic    = "BMRK"
	markInterval = time.Second
)

// markState says how far the WAL was durable: everything before offset of segment seq.
type markState struct {
	seq, offset uint64
	crc         uint32 // running checksum there
	hs          hardState
	lastTerm    uint64
	last        uint64
	snap        uint64 // newest snapshot in force
	floor       uint64 // newest snapshot that replaced the log
}

func (m markState) encode(n, incarnation uint64) []byte {
	b := append(make([]byte, 0, markBytes), markMagic...)
	b = binary.LittleEndian.AppendUint32(b, formatVersion)
	for _, v := range []uint64{n, incarnation, m.seq, m.offset, m.hs.term, m.hs.vote, m.lastTerm, m.last, m.snap, m.floor} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	b = binary.LittleEndian.AppendUint32(b, m.crc)
	b = binary.LittleEndian.AppendUint32(b, 0)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func markSum(b []byte) bool {
	return string(b[:4]) == markMagic && crc32.Checksum(b[:markBytes-4], castagnoli) == binary.LittleEndian.Uint32(b[markBytes-4:])
}

func decodeMark(b []byte, incarnation uint64) (m markState, n uint64, ok bool) {
	if !markSum(b) {
		return m, 0, false
	}
	u := func(i int) uint64 { return binary.LittleEndian.Uint64(b[8+8*i:]) }
	if binary.LittleEndian.Uint32(b[4:]) != formatVersion || u(1) != incarnation {
		return m, 0, false
	}
	m = markState{seq: u(2), offset: u(3), hs: hardState{term: u(4), vote: u(5)}, lastTerm: u(6), last: u(7), snap: u(8), floor: u(9)}
	m.crc = binary.LittleEndian.Uint32(b[88:])
	return m, u(0), true
}

// mark is the file that remembers how far the WAL was durable. A slot is written after every fsync of the WAL, never
// before it; the two slots take turns.
type mark struct {
	f           *os.File
	incarnation uint64
	dirty       chan struct{} // 1-buffered: written since the last sync

	mu sync.Mutex // guards what follows
	n  uint64
}

func createMark(name string, incarnation uint64) (*mark, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	_, err = f.Write(make([]byte, markSize))
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &mark{f: f, incarnation: incarnation, dirty: make(chan struct{}, 1)}, nil
}

// readMark returns the newest mark in the file. The mark it returns is open for writing.
func readMark(name string, incarnation uint64) (*mark, markState, error) {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, markState{}, corrupt(name, 0, "missing")
	}
	if err != nil {
		return nil, markState{}, fileError(name, 0, err)
	}
	m := &mark{f: f, incarnation: incarnation, dirty: make(chan struct{}, 1)}
	var best markState
	found := false
	for slot := int64(0); slot < markSize; slot += markSlot {
		b := make([]byte, markBytes)
		if _, err := f.ReadAt(b, slot); err != nil {
			f.Close()
			return nil, best, fileError(name, slot, err)
		}
		if v := binary.LittleEndian.Uint32(b[4:]); markSum(b) && v != formatVersion {
			f.Close()
			return nil, best, fmt.Errorf("storage: %s has format version %d, this program knows %d", name, v, formatVersion)
		}
		if s, n, ok := decodeMark(b, incarnation); ok && n >= m.n {
			best, m.n, found = s, n, true
		}
	}
	if !found {
		f.Close()
		return nil, best, corrupt(name, 0, "no readable slot")
	}
	return m, best, nil
}

func (m *mark) write(s markState) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.n++
	if _, err := m.f.WriteAt(s.encode(m.n, m.incarnation), int64(m.n%2)*markSlot); err != nil {
		return fmt.Errorf("storage: write mark: %w", err)
	}
	select {
	case m.dirty <- struct{}{}:
	default:
	}
	return nil
}

func (m *mark) sync() error {
	if err := m.f.Sync(); err != nil {
		return fmt.Errorf("storage: sync mark: %w", err)
	}
	return nil
}

// run syncs the mark markInterval after a write, until stop is closed.
func (m *mark) run(stop <-chan struct{}, fail func(error) error) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	<-timer.C
	for {
		select {
		case <-m.dirty:
		case <-stop:
			return
		}
		timer.Reset(markInterval)
		select {
		case <-timer.C:
		case <-stop:
			return
		}
		if err := m.sync(); err != nil {
			fail(err)
			return
		}
	}
}
