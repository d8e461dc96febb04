package storage

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"path/filepath"
	"sort"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/baton-ha/baton/internal/vfs"
	"go.etcd.io/raft/v3/raftpb"
)

const (
	snapMagic   = "BATONSNP"
	snapTrailer = 12
	snapExt     = ".snap"
	stagedExt   = ".staged"
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
	err = encodeSnapshot(io.NewOffsetWriter(f, 0), snap, body)
	if err == nil {
		err = f.Sync()
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

func encodeSnapshot(w io.Writer, snap *raftpb.Snapshot, body func(io.Writer) error) error {
	meta, err := proto.Marshal(snap)
	if err != nil {
		return err
	}
	buf := bufio.NewWriterSize(w, 256<<10)
	sum := &summer{w: buf}
	head := binary.LittleEndian.AppendUint32([]byte(snapMagic), formatVersion)
	head = binary.LittleEndian.AppendUint32(head, uint32(len(meta)))
	if _, err := sum.Write(append(head, meta...)); err != nil {
		return err
	}
	start := sum.n
	if body != nil {
		if err := body(sum); err != nil {
			return err
		}
	}
	if _, err := sum.Write(binary.LittleEndian.AppendUint64(nil, uint64(sum.n-start))); err != nil {
		return err
	}
	if _, err := buf.Write(binary.LittleEndian.AppendUint32(nil, sum.crc)); err != nil {
		return err
	}
	return buf.Flush()
}

// summer counts and checksums what passes.
type summer struct {
	w   io.Writer
	n   int64
	crc uint32
}

func (s *summer) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	s.n, s.crc = s.n+int64(n), crc32.Update(s.crc, castagnoli, p[:n])
	return n, err
}

// snapshotReader reads the body of a snapshot file and verifies the whole file at its end.
type snapshotReader struct {
	r    io.Reader
	f    vfs.File
	path string
	snap *raftpb.Snapshot
	body int64 // size of the body
	left int64
	crc  uint32
	err  error // what the end of the body returned
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
	in := io.NewSectionReader(f, 0, size)
	head := make([]byte, 16)
	if _, err := io.ReadFull(in, head); err != nil {
		return nil, &CorruptError{File: path, Err: err}
	}
	n := int64(binary.LittleEndian.Uint32(head[12:]))
	if string(head[:8]) != snapMagic || n > size-16-snapTrailer || n > snapMaxHead {
		return nil, corrupt(path, 0, "bad header")
	}
	if v := binary.LittleEndian.Uint32(head[8:]); v != formatVersion {
		return nil, corrupt(path, 8, "format version %d, this program knows %d", v, formatVersion)
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
	return &snapshotReader{r: in, f: f, path: path, snap: snap, body: body, left: body, crc: crc}, nil
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
