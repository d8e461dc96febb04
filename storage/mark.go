package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/baton-ha/baton/internal/stats"
	"github.com/baton-ha/baton/internal/vfs"
)

const (
	markSize     = 8192
	markSlot     = 4096 // slots are a page apart: one torn write cannot hit both
	markCopy     = 512  // each slot holds two copies, in sectors of their own
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
	f           vfs.File
	incarnation uint64
	dirty       chan struct{} // 1-buffered: written since the last sync
	syncs       *stats.Histogram

	mu sync.Mutex // guards what follows
	n  uint64
}

// createMark makes an empty mark, which is not durable yet.
func (d disk) createMark(name string, incarnation uint64, t *tally) (*mark, error) {
	f, err := d.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if _, err = f.WriteAt(make([]byte, markSize), 0); err != nil {
		f.Close()
		return nil, err
	}
	return &mark{f: f, incarnation: incarnation, dirty: make(chan struct{}, 1), syncs: &t.syncs}, nil
}

// readMark returns the newest mark in the file. The mark it returns is open for writing.
func (d disk) readMark(name string, incarnation uint64, t *tally) (*mark, markState, error) {
	f, err := d.OpenFile(name, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, markState{}, corrupt(name, 0, "missing")
	}
	if err != nil {
		return nil, markState{}, fileError(name, 0, err)
	}
	m := &mark{f: f, incarnation: incarnation, dirty: make(chan struct{}, 1), syncs: &t.syncs}
	var best markState
	lost, blank := int64(-1), false
	for slot := int64(0); slot < markSize && err == nil; slot += markSlot {
		var s markState
		var n uint64
		var empty bool
		if s, n, empty, err = readSlot(f, slot, incarnation); n == 0 {
			lost, blank = slot, empty
		} else if n > m.n {
			best, m.n = s, n
		}
	}
	if err == nil && lost >= 0 && !(blank && m.n == 1) { // 1: the creation wrote no second slot, once
		err = corrupt(name, lost, "unreadable slot")
	}
	if err != nil {
		f.Close()
		return nil, best, err
	}
	return m, best, nil
}

// readSlot returns the newest copy in a slot and its count, 0 if there is none that can be read. blank: nothing was written.
//
// No crash leaves a slot unreadable. One that is being written may reach the disk in part, and at a power cut that may be
// all that there is, in both slots; but the copies are written one after the other, so one of them is whole. Once both
// slots have been written, a slot without a readable copy is damaged, and its contents may have been the newest.
func readSlot(f vfs.File, slot int64, incarnation uint64) (best markState, count uint64, blank bool, err error) {
	b := make([]byte, markCopy+markBytes)
	if _, err := f.ReadAt(b, slot); err != nil {
		return best, 0, false, fileError(f.Name(), slot, err)
	}
	for _, b := range [][]byte{b, b[markCopy:]} {
		if v := binary.LittleEndian.Uint32(b[4:]); markSum(b) && v != formatVersion {
			return best, 0, false, fmt.Errorf("storage: %s has format version %d, this program knows %d", f.Name(), v, formatVersion)
		}
		if s, n, ok := decodeMark(b, incarnation); ok && n > count {
			best, count = s, n
		}
	}
	return best, count, zero(b), nil
}

func (m *mark) write(s markState) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.n++
	b := make([]byte, markCopy+markBytes)
	copy(b[markCopy:], s.encode(m.n, m.incarnation))
	copy(b, b[markCopy:])
	if _, err := m.f.WriteAt(b, int64(m.n%2)*markSlot); err != nil {
		return fmt.Errorf("storage: write mark: %w", err)
	}
	select {
	case m.dirty <- struct{}{}:
	default:
	}
	return nil
}

func (m *mark) sync() error {
	began := time.Now()
	err := m.f.Datasync() // a vote waits for it; the file has its size since it was made
	m.syncs.Observe(int64(time.Since(began)))
	if err != nil {
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
