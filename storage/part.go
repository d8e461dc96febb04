package storage

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/baton-ha/baton/internal/vfs"
	"go.etcd.io/raft/v3/raftpb"
)

// This file is about snapshots that are being received. One whose body has broken off is kept, under a name that says which one it
// is, and goes on where it broke off: in this process, or after a restart. What is there of it is never believed: whoever sends
// the rest compares it with what it has itself. So it need not be durable either.

// A resumer is a body that need not begin at its beginning.
type resumer interface {
	// Resume says that the receiver has the first bytes of the body, and their SHA-256. It returns where the body that is read
	// next begins: behind those bytes, or at 0 if they are not what it begins with. It is called at most once, before the first Read.
	Resume(have int64, sum [sha256.Size]byte) (from int64, err error)
}

// A part is a snapshot file that is being received.
type part struct {
	w    *WAL
	id   snapID
	f    vfs.File
	kept bool // it has the name by which it is found again
}

// receive writes a snapshot whose body is read, to its end, into a file of its own, durably. The file is the caller's until it
// calls done.
func (w *WAL) receive(snap *raftpb.Snapshot, body io.Reader) (name string, done func(), err error) {
	p, err := w.beginPart(idOf(snap))
	if err != nil {
		return "", nil, fmt.Errorf("storage: write snapshot %d: %w", idOf(snap).index, err)
	}
	in := &source{r: body}
	keep := p.kept // what is there, if it breaks off
	out, err := p.goOn(in)
	if err == nil && body != nil {
		_, err = io.CopyBuffer(openWriter{w, out}, in, make([]byte, 256<<10))
		keep = keep && out.n > 0 && out.buf.Flush() == nil
	}
	if keep = keep && (in.err != nil || errors.Is(err, ErrClosed)); err == nil {
		err = out.finish(snap)
	}
	if err = errors.Join(err, p.f.Close()); err == nil {
		return p.f.Name(), p.done, nil
	}
	if !keep {
		err = errors.Join(err, w.disk.Remove(p.f.Name()))
	}
	p.done()
	return "", nil, fmt.Errorf("storage: write snapshot %d: %w", p.id.index, err)
}

// beginPart opens the file of a snapshot that is to be received: that of one that has broken off if there is one. Of those that
// have broken off only that one is kept. While the same snapshot is being received already, another file is taken, which
// is nothing to come back to.
func (w *WAL) beginPart(id snapID) (*part, error) {
	dir := filepath.Join(w.dir, snapName)
	w.snapMu.Lock()
	p := &part{w: w, id: id, kept: !w.parts[id]}
	var others []snapID
	err := w.usable()
	if p.kept && err == nil {
		w.parts[id] = true
		others, err = w.brokenOff(dir)
	}
	w.snapMu.Unlock()
	for _, other := range others {
		err = errors.Join(err, w.disk.removeAll([]string{filepath.Join(dir, other.file(partExt))}))
		w.endPart(other)
	}
	if err == nil {
		if p.kept {
			p.f, err = w.disk.OpenFile(filepath.Join(dir, id.file(partExt)), os.O_RDWR|os.O_CREATE, 0o600)
		} else {
			p.f, err = w.disk.createTemp(dir, id.file(".*"+tmpExt))
		}
	}
	if err != nil {
		p.done()
		return nil, err
	}
	return p, nil
}

// brokenOff returns the snapshots that nobody receives any more, which are the caller's from now on. w.snapMu is held.
func (w *WAL) brokenOff(dir string) (ids []snapID, err error) {
	names, err := w.disk.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range names {
		if id, ok := partOf(e.Name()); ok && !w.parts[id] {
			w.parts[id] = true
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// partOf reads the name of a snapshot that is being received.
func partOf(name string) (snapID, bool) {
	base, ok := strings.CutSuffix(name, partExt)
	index, term, named := parseSegmentName(base + ".wal")
	return snapID{index, term}, ok && named
}

func (w *WAL) endPart(id snapID) {
	w.snapMu.Lock()
	defer w.snapMu.Unlock()
	delete(w.parts, id)
}

func (p *part) done() {
	if p.kept {
		p.w.endPart(p.id)
	}
}

// goOn returns a writer that continues the file with what the body brings, which may be all of it.
func (p *part) goOn(body *source) (*bodyWriter, error) {
	have, crc, sum := p.have()
	if r, ok := body.r.(resumer); ok && have > 0 {
		from, err := r.Resume(have, sum)
		if err != nil {
			body.err = err
			return nil, err
		}
		if from == have {
			out := io.NewOffsetWriter(p.f, snapFrontSize+have)
			return &bodyWriter{f: p.f, n: have, synced: have, crc: crc, buf: bufio.NewWriterSize(out, 256<<10)}, nil
		}
	}
	return newBodyWriter(p.f), p.f.Truncate(0)
}

// have returns how much of a body there is, with its checksums. What cannot be read is not there.
func (p *part) have() (n int64, crc uint32, sum [sha256.Size]byte) {
	fi, err := p.f.Stat()
	front := snapFront()
	if err != nil || fi.Size() <= snapFrontSize {
		return 0, 0, sum
	}
	if _, err := p.f.ReadAt(front, 0); err != nil || !bytes.Equal(front, snapFront()) {
		return 0, 0, sum
	}
	n = fi.Size() - snapFrontSize
	crc, sum, err = digest(io.NewSectionReader(p.f, snapFrontSize, n), n)
	if err != nil {
		return 0, 0, sum
	}
	return n, crc, sum
}

// digest reads n bytes.
func digest(r io.Reader, n int64) (crc uint32, sum [sha256.Size]byte, err error) {
	strong, weak := sha256.New(), crc32.New(castagnoli)
	read, err := io.CopyBuffer(io.MultiWriter(strong, weak), struct{ io.Reader }{io.LimitReader(r, n)}, make([]byte, min(n, 256<<10)))
	if err == nil && read < n {
		err = io.ErrUnexpectedEOF
	}
	return weak.Sum32(), [sha256.Size]byte(strong.Sum(nil)), err
}

// source knows whether it is at fault for what failed.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// AdoptSnapshot brings a staged snapshot into force as this member's own checkpoint, under a header of this member's: snap is of the
// same index and term. The entry that it names must be durable, and known to be committed. The log stays as it is, and no
// snapshot before it is kept. One that was overtaken is dropped, which is no error. The error is ErrNoSnapshot when it was not staged.
// When it fails before it comes into force nothing has changed, but that the snapshot is no longer staged.
func (w *WAL) AdoptSnapshot(snap *raftpb.Snapshot) error {
	w.snapMu.Lock()
	overtaken, err := w.overtaken(snap)
	if !overtaken && err == nil {
		err = w.adopt(snap)
	}
	w.snapMu.Unlock()
	if err != nil {
		return err
	}
	w.sweep()
	return nil
}

// adopt is AdoptSnapshot with w.snapMu held.
func (w *WAL) adopt(snap *raftpb.Snapshot) error {
	id := idOf(snap)
	dir := filepath.Join(w.dir, snapName)
	staged := filepath.Join(dir, id.file(stagedExt))
	if _, err := w.disk.Stat(staged); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %d of term %d is not staged", ErrNoSnapshot, id.index, id.term)
	}
	if err := w.disk.setHeader(staged, snap); err != nil {
		return fmt.Errorf("storage: adopt snapshot: %w", errors.Join(err, w.disk.Remove(staged)))
	}
	return w.enforce(snap, staged, true)
}
