package storage

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/baton-ha/baton/internal/vfs"
	"go.etcd.io/raft/v3/raftpb"
)

const (
	snapMagic   = "BATONSNP"
	snapVersion = 2

	snapFrontSize = 8 + 4         // before the body
	snapTailSize  = 4 + 8 + 4 + 4 // behind the header
	snapTrailer   = 12            // of version 1

	snapExt     = ".snap"
	stagedExt   = ".staged"
	partExt     = ".part"
	tmpExt      = ".tmp"
	snapMaxHead = 1 << 30
)

// snapID names a snapshot file.
type snapID struct{ index, term uint64 }

func idOf(s *raftpb.Snapshot) snapID {
	return snapID{s.GetMetadata().GetIndex(), s.GetMetadata().GetTerm()}
}

func (id snapID) file(ext string) string { return fmt.Sprintf("%016x-%016x%s", id.index, id.term, ext) }

// writeSnapshotFile writes a snapshot into a new file in dir, makes it durable and returns its name. A failure leaves no
// file. The name is unlike any other's: two that write the same snapshot do not meet.
func (d disk) writeSnapshotFile(dir string, snap *raftpb.Snapshot, body func(io.Writer) error) (name string, err error) {
	f, err := d.createTemp(dir, idOf(snap).file(".*"+tmpExt))
	if err != nil {
		return "", err
	}
	out := newBodyWriter(f)
	if body != nil {
		err = body(out)
	}
	if err == nil {
		err = out.finish(snap)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(err, d.Remove(f.Name()))
	}
	return f.Name(), nil
}

// moveFile renames a file that is durable, durably. After an error it has neither name.
func (d disk) moveFile(from, to string) error {
	err := d.Rename(from, to)
	if err == nil {
		from, err = to, d.syncDir(filepath.Dir(to))
	}
	if err != nil {
		return errors.Join(err, d.Remove(from))
	}
	return nil
}

// A bodyWriter writes a snapshot file: the body first, so that what follows it, the snapshot's header, need not be known
// before all of the body is there.
type bodyWriter struct {
	f   vfs.File
	buf *bufio.Writer
	n   int64  // bytes of the body
	crc uint32 // of them

	synced   int64     // how many of those
	syncedAt time.Time // since when
}

// A body is made durable piece by piece. A large state that is synced all at once at the end keeps the disk busy for seconds, in which
// the log waits, and then costs the role; and a large piece, for as long as each write to the log behind it waits.
const (
	syncPiece = 1 << 20               // bytes, where they come fast
	slowPiece = 256 << 10             // where they come slowly
	syncPause = 10 * time.Millisecond // that is, no faster than one in this time
)

// newBodyWriter begins a new file.
func newBodyWriter(f vfs.File) *bodyWriter {
	w := &bodyWriter{f: f, buf: bufio.NewWriterSize(io.NewOffsetWriter(f, 0), 256<<10)}
	_, _ = w.buf.Write(snapFront()) // only into the buffer
	return w
}

// snapFront is how a file begins.
func snapFront() []byte { return binary.LittleEndian.AppendUint32([]byte(snapMagic), snapVersion) }

// Write implements [io.Writer].
func (w *bodyWriter) Write(p []byte) (int, error) {
	n, err := w.buf.Write(p)
	w.n, w.crc = w.n+int64(n), crc32.Update(w.crc, castagnoli, p[:n])
	if fresh := w.n - w.synced; err == nil && (fresh >= syncPiece || fresh >= slowPiece && time.Since(w.syncedAt) >= syncPause) {
		err = w.syncBody()
	}
	return n, err
}

// syncBody makes durable what was written so far.
func (w *bodyWriter) syncBody() error {
	err := errors.Join(w.buf.Flush(), w.f.Datasync())
	w.synced, w.syncedAt = w.n, time.Now()
	return err
}

// finish writes what follows the body, and makes the file durable.
func (w *bodyWriter) finish(snap *raftpb.Snapshot) error {
	tail, err := snapTail(snap, w.n, w.crc)
	if err != nil {
		return err
	}
	if _, err := w.buf.Write(tail); err != nil {
		return err
	}
	return errors.Join(w.buf.Flush(), w.f.Sync())
}

// snapTail is what follows a body of that size and checksum.
func snapTail(snap *raftpb.Snapshot, size int64, crc uint32) ([]byte, error) {
	tail, err := proto.Marshal(snap)
	if err != nil {
		return nil, err
	}
	tail = binary.LittleEndian.AppendUint32(tail, uint32(len(tail)))
	tail = binary.LittleEndian.AppendUint64(tail, uint64(size))
	tail = binary.LittleEndian.AppendUint32(tail, crc)
	return binary.LittleEndian.AppendUint32(tail, crc32.Update(crc32.Checksum(snapFront(), castagnoli), castagnoli, tail)), nil
}

// setHeader gives a snapshot file that is not in force another header, durably. The body stays as it is.
func (d disk) setHeader(path string, snap *raftpb.Snapshot) error {
	r, err := d.openSnapshotFile(path)
	if err != nil {
		return err
	}
	tail, err := snapTail(snap, r.body, r.sum)
	if err = errors.Join(err, r.Close()); err != nil {
		return err
	}
	f, err := d.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	end := snapFrontSize + r.body
	err = f.Truncate(end)
	if err == nil {
		_, err = f.WriteAt(tail, end)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// snapshotReader reads the body of a snapshot file and verifies it at its end, in version 1 with the whole file.
type snapshotReader struct {
	r    *io.SectionReader
	f    vfs.File
	path string
	from int64  // of r, where the body begins
	seed uint32 // of the checksum there
	snap *raftpb.Snapshot
	body int64 // size of the body
	left int64
	crc  uint32
	old  bool   // version 1: what is to come out follows the body
	sum  uint32 // else it is this
	err  error  // what the end of the body returned
}

func (d disk) openSnapshotFile(path string) (r *snapshotReader, err error) {
	f, size, err := d.openSized(path)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	front := make([]byte, snapFrontSize)
	if _, err := f.ReadAt(front, 0); err != nil {
		return nil, fileError(path, 0, fmt.Errorf("read: %w", err))
	}
	if string(front[:8]) != snapMagic {
		return nil, corrupt(path, 0, "bad header")
	}
	switch v := binary.LittleEndian.Uint32(front[8:]); v {
	case 1:
		return openOldSnapshot(f, path, size)
	case snapVersion:
	default:
		return nil, corrupt(path, 8, "format version %d, this program knows %d", v, snapVersion)
	}
	at := size - snapTailSize
	tail, err := readAt(f, path, at, snapTailSize)
	if err != nil {
		return nil, err
	}
	n, body := int64(binary.LittleEndian.Uint32(tail)), int64(binary.LittleEndian.Uint64(tail[4:]))
	if n > snapMaxHead || body < 0 || body != at-n-snapFrontSize {
		return nil, corrupt(path, at, "bad end")
	}
	meta, err := readAt(f, path, at-n, n)
	if err != nil {
		return nil, err
	}
	crc := crc32.Update(crc32.Checksum(front, castagnoli), castagnoli, meta)
	if crc32.Update(crc, castagnoli, tail[:snapTailSize-4]) != binary.LittleEndian.Uint32(tail[snapTailSize-4:]) {
		return nil, corrupt(path, at-n, "checksum does not match")
	}
	snap := &raftpb.Snapshot{}
	if err := proto.Unmarshal(meta, snap); err != nil {
		return nil, &CorruptError{File: path, Offset: at - n, Err: err}
	}
	in := io.NewSectionReader(f, snapFrontSize, body)
	return &snapshotReader{r: in, f: f, path: path, snap: snap, body: body, left: body, sum: binary.LittleEndian.Uint32(tail[12:])}, nil
}

// readAt reads n bytes of a file that has them, if it is what it should be.
func readAt(f vfs.File, path string, at, n int64) ([]byte, error) {
	if at < 0 {
		return nil, corrupt(path, 0, "too short")
	}
	b := make([]byte, n)
	if _, err := f.ReadAt(b, at); err != nil && n > 0 {
		return nil, fileError(path, at, fmt.Errorf("read: %w", err))
	}
	return b, nil
}

// openOldSnapshot opens a file of version 1, in which the header comes first.
func openOldSnapshot(f vfs.File, path string, size int64) (*snapshotReader, error) {
	in := io.NewSectionReader(f, 0, size)
	head := make([]byte, 16)
	if _, err := io.ReadFull(in, head); err != nil {
		return nil, &CorruptError{File: path, Err: err}
	}
	n := int64(binary.LittleEndian.Uint32(head[12:]))
	if n > size-16-snapTrailer || n > snapMaxHead {
		return nil, corrupt(path, 0, "bad header")
	}
	meta := make([]byte, n)
	if _, err := io.ReadFull(in, meta); err != nil {
		return nil, &CorruptError{File: path, Offset: 16, Err: err}
	}
	snap := &raftpb.Snapshot{}
	if err := proto.Unmarshal(meta, snap); err != nil {
		return nil, &CorruptError{File: path, Offset: 16, Err: err}
	}
	crc := crc32.Update(crc32.Checksum(head, castagnoli), castagnoli, meta)
	body := size - 16 - n - snapTrailer
	return &snapshotReader{r: in, f: f, path: path, snap: snap, body: body, left: body, from: 16 + n, seed: crc, crc: crc, old: true}, nil
}

func (r *snapshotReader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	if r.left == 0 {
		r.err = r.finish()
		return 0, r.err
	}
	n, err := r.r.Read(p[:min(int64(len(p)), r.left)])
	r.left, r.crc = r.left-int64(n), crc32.Update(r.crc, castagnoli, p[:n])
	if err != nil {
		r.err = fileError(r.path, r.body-r.left, fmt.Errorf("read: %w", err))
		return n, r.err
	}
	return n, nil
}

func (r *snapshotReader) finish() error {
	if !r.old {
		if r.crc != r.sum {
			return corrupt(r.path, snapFrontSize, "checksum does not match")
		}
		return io.EOF
	}
	var b [snapTrailer]byte
	if _, err := io.ReadFull(r.r, b[:]); err != nil {
		return &CorruptError{File: r.path, Err: err}
	}
	if n := binary.LittleEndian.Uint64(b[:]); n != uint64(r.body) {
		return corrupt(r.path, 0, "body of %d bytes, trailer says %d", r.body, n)
	}
	if sum := crc32.Update(r.crc, castagnoli, b[:8]); sum != binary.LittleEndian.Uint32(b[8:]) {
		return corrupt(r.path, 0, "checksum does not match")
	}
	return io.EOF
}

// Rewind lets the body be read again from its beginning. The file is the same one, whatever has become of its name.
func (r *snapshotReader) Rewind() error {
	_, err := r.r.Seek(r.from, io.SeekStart)
	r.left, r.crc, r.err = r.body, r.seed, nil
	return err
}

func (r *snapshotReader) Close() error { return r.f.Close() }

// verifySnapshotFile reads the whole file.
func (d disk) verifySnapshotFile(path string, id snapID) (*raftpb.Snapshot, error) {
	r, err := d.openSnapshotFile(path)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, r, make([]byte, min(r.body+1, 256<<10))); err != nil {
		return nil, err
	}
	if idOf(r.snap) != id {
		return nil, corrupt(path, 16, "holds snapshot %d of term %d", idOf(r.snap).index, idOf(r.snap).term)
	}
	return r.snap, nil
}

// listSnapshots returns the snapshot files, newest first.
func (d disk) listSnapshots(dir string) ([]snapID, error) {
	names, err := d.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fileError(dir, 0, err)
	}
	var ids []snapID
	for _, e := range names {
		base, ok := strings.CutSuffix(e.Name(), snapExt)
		if !ok {
			continue
		}
		if index, term, ok := parseSegmentName(base + ".wal"); ok {
			ids = append(ids, snapID{index, term})
		}
	}
	sort.Slice(ids, func(i, j int) bool {
		if ids[i].index != ids[j].index {
			return ids[i].index > ids[j].index
		}
		return ids[i].term > ids[j].term
	})
	return ids, nil
}
