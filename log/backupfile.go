package log

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/baton-ha/baton/internal/core"
)

// This file is the format of a backup, which is laid out as
//
//	0   "BATONBAK"
//	8   version, 4 bytes, little endian, as all numbers here
//	12  length of the header, 4 bytes
//	16  header: msgpack map (backupHead)
//	    checksum, 4 bytes
//	    frames, each: type, 1 byte; zero, 3 bytes; length, 4 bytes; content; checksum, 4 bytes
//
// A checksum is the CRC32C of everything before it that is no checksum: so no frame can be missing, double, or in another place. Frames
// of type 1 are the state machine's state in pieces. Then come those of type 2: raft entries, each with its length in 4 bytes before it, as
// protobuf. The one of type 3 is the last: bytes of the state, 8 bytes; number of entries, 8 bytes.
const (
	backupMagic   = "BATONBAK"
	backupVersion = 1

	frameState   = 1
	frameEntries = 2
	frameEnd     = 3

	backupPiece   = 256 << 10 // bytes of a frame, unless a single entry has more
	maxBackupHead = 64 << 20
	maxFrame      = 128 << 20
)

// backupHead is the header.
type backupHead struct {
	Version    int    `codec:"v"`
	Cluster    string `codec:"c"`
	Member     string `codec:"m"`
	Time       int64  `codec:"t"` // ns since 1970
	Raft       uint64 `codec:"r"` // the raft entry at which the checkpoint stands
	Term       uint64 `codec:"e"` // and its term
	Checkpoint []byte `codec:"k"` // the checkpoint's header, as in a snapshot
	State      int64  `codec:"s"` // bytes of the state
	Entries    uint64 `codec:"n"` // how many raft entries follow it
}

func (h *backupHead) info(cp core.Checkpoint) BackupInfo {
	return BackupInfo{
		Cluster: h.Cluster, ClusterID: cp.Position.ClusterID, Member: h.Member, Time: time.Unix(0, h.Time), Epoch: cp.Position.Epoch().Epoch,
		Index: cp.Position.Index, First: cp.Base.Index + 1, State: h.State, Machine: cp.Machine, Members: cp.Position.Roster.Members,
	}
}

// A BackupError says that what was read is not a whole backup as it was written.
type BackupError struct {
	Offset int64 // of the part that cannot be used
	Err    error // io.ErrUnexpectedEOF if it ends there
}

func (e *BackupError) Error() string {
	return fmt.Sprintf("baton: not a whole backup: at byte %d: %v", e.Offset, e.Err)
}

func (e *BackupError) Unwrap() error { return e.Err }

var (
	castagnoli   = crc32.MakeTable(crc32.Castagnoli)
	backupHandle = &codec.MsgpackHandle{WriteExt: true}
)

// backupWriter writes the parts of a backup. After an error it does nothing.
type backupWriter struct {
	ctx   context.Context // of one call of Backup
	w     io.Writer
	sum   uint32
	err   error
	bytes uint64 // of the state
	n     uint64 // of entries
	buf   []byte
}

func (b *backupWriter) fail(err error) {
	if b.err == nil {
		b.err = err
	}
}

// write writes what is in buf, and the checksum behind it.
func (b *backupWriter) write() {
	if b.err == nil && b.ctx.Err() != nil {
		b.err = context.Cause(b.ctx)
	}
	if b.err != nil {
		return
	}
	b.sum = crc32.Update(b.sum, castagnoli, b.buf)
	b.buf = binary.LittleEndian.AppendUint32(b.buf, b.sum)
	if _, err := b.w.Write(b.buf); err != nil {
		b.err = err
	}
}

func (b *backupWriter) head(h backupHead) {
	var text []byte
	if err := codec.NewEncoderBytes(&text, backupHandle).Encode(h); err != nil {
		b.fail(err)
		return
	}
	b.buf = binary.LittleEndian.AppendUint32(append(b.buf[:0], backupMagic...), backupVersion)
	b.buf = append(binary.LittleEndian.AppendUint32(b.buf, uint32(len(text))), text...)
	b.write()
}

// frame begins one; its content is appended to buf, and written by done.
func (b *backupWriter) frame(kind byte) { b.buf = append(b.buf[:0], kind, 0, 0, 0, 0, 0, 0, 0) }

func (b *backupWriter) done() {
	binary.LittleEndian.PutUint32(b.buf[4:], uint32(len(b.buf)-8))
	b.write()
}

func (b *backupWriter) state(r io.Reader) {
	piece := make([]byte, backupPiece)
	for b.err == nil {
		n, err := io.ReadFull(r, piece)
		if n > 0 {
			b.frame(frameState)
			b.buf = append(b.buf, piece[:n]...)
			b.done()
			b.bytes += uint64(n)
		}
		switch {
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			return
		case err != nil:
			b.fail(err)
		}
	}
}

func (b *backupWriter) entries(ents []*raftpb.Entry) {
	b.frame(frameEntries)
	for _, e := range ents {
		at := len(b.buf)
		var err error
		if b.buf, err = (proto.MarshalOptions{}).MarshalAppend(append(b.buf, 0, 0, 0, 0), e); err != nil {
			b.fail(err)
			return
		}
		binary.LittleEndian.PutUint32(b.buf[at:], uint32(len(b.buf)-at-4))
	}
	b.done()
	b.n += uint64(len(ents))
}

func (b *backupWriter) end() {
	b.frame(frameEnd)
	b.buf = binary.LittleEndian.AppendUint64(b.buf, b.bytes)
	b.buf = binary.LittleEndian.AppendUint64(b.buf, b.n)
	b.done()
}

// backupReader reads a backup, part by part.
type backupReader struct {
	r    io.Reader
	off  int64 // of the part that is being read
	next int64 // of the part behind it
	sum  uint32

	kind    byte // of the frame that comes next; 0: it is not known yet
	content []byte
	bytes   uint64
	n       uint64
}

func (b *backupReader) bad(format string, args ...any) error {
	return &BackupError{b.off, fmt.Errorf(format, args...)}
}

// part reads size bytes. Memory grows with what comes, whatever a damaged length says. Errors of the reader itself are told as they are.
func (b *backupReader) part(size int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(b.r, size))
	b.next += int64(len(data))
	if err == nil && int64(len(data)) < size {
		err = io.ErrUnexpectedEOF
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = &BackupError{b.off, io.ErrUnexpectedEOF}
	}
	return data, err
}

// check reads the checksum behind what was read.
func (b *backupReader) check(parts ...[]byte) error {
	for _, p := range parts {
		b.sum = crc32.Update(b.sum, castagnoli, p)
	}
	sum, err := b.part(4)
	if err != nil {
		return err
	}
	if binary.LittleEndian.Uint32(sum) != b.sum {
		return b.bad("bad checksum")
	}
	b.off = b.next
	return nil
}

func (b *backupReader) head() (h backupHead, cp core.Checkpoint, err error) {
	fixed, err := b.part(16)
	switch {
	case len(fixed) >= 8 && string(fixed[:8]) != backupMagic:
		return h, cp, b.bad("it does not begin as one")
	case err != nil:
		return h, cp, err
	}
	if v := binary.LittleEndian.Uint32(fixed[8:]); v != backupVersion {
		return h, cp, b.bad("it has version %d, this program knows %d", v, backupVersion)
	}
	size := binary.LittleEndian.Uint32(fixed[12:])
	if size > maxBackupHead {
		return h, cp, b.bad("a header of %d bytes", size)
	}
	text, err := b.part(int64(size))
	if err == nil {
		err = b.check(fixed, text)
	}
	if err != nil {
		return h, cp, err
	}
	if err := codec.NewDecoderBytes(text, backupHandle).Decode(&h); err != nil {
		return h, cp, &BackupError{16, err}
	}
	if h.Version != backupVersion || h.State < 0 {
		return h, cp, b.bad("header of version %d with %d bytes of state", h.Version, h.State)
	}
	if cp, err = core.ParseCheckpoint(&raftpb.Snapshot{Data: h.Checkpoint, Metadata: &raftpb.SnapshotMetadata{Index: &h.Raft, Term: &h.Term}}); err != nil {
		return h, cp, &BackupError{16, err}
	}
	if h.Entries != cp.Position.Raft-cp.Base.Raft || cp.Position.Raft == 0 {
		return h, cp, b.bad("%d entries for those behind %d up to %d", h.Entries, cp.Base.Raft, cp.Position.Raft)
	}
	return h, cp, nil
}

// peek reads the next frame.
func (b *backupReader) peek() error {
	if b.kind != 0 {
		return nil
	}
	head, err := b.part(8)
	if err != nil {
		return err
	}
	size := int64(binary.LittleEndian.Uint32(head[4:]))
	switch kind := head[0]; {
	case kind < frameState || kind > frameEnd || head[1]|head[2]|head[3] != 0:
		return b.bad("a part of kind %d, which is none", kind)
	case kind == frameState && size > backupPiece || size > maxFrame || kind == frameEnd && size != 16:
		return b.bad("a part of kind %d with %d bytes", kind, size)
	}
	if b.content, err = b.part(size); err != nil {
		return err
	}
	if err := b.check(head, b.content); err != nil {
		return err
	}
	b.kind = head[0]
	return nil
}

// state writes the state, which is the first that follows the header.
func (b *backupReader) state(ctx context.Context, w io.Writer) error {
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := b.peek(); err != nil || b.kind != frameState {
			return err
		}
		if _, err := w.Write(b.content); err != nil {
			return err
		}
		b.bytes += uint64(len(b.content))
		b.kind = 0
	}
}

// entries yields the entries behind the state, and verifies the end.
func (b *backupReader) entries(ctx context.Context, h backupHead) iter.Seq2[*raftpb.Entry, error] {
	return func(yield func(*raftpb.Entry, error) bool) {
		for {
			err := b.peek()
			switch {
			case ctx.Err() != nil:
				err = context.Cause(ctx)
			case err != nil:
			case b.kind == frameState:
				err = b.bad("state behind the state")
			case b.kind == frameEnd:
				bytes, n := binary.LittleEndian.Uint64(b.content), binary.LittleEndian.Uint64(b.content[8:])
				if bytes == b.bytes && n == b.n && n == h.Entries && bytes == uint64(h.State) {
					return
				}
				err = b.bad("%d bytes and %d entries, the end says %d and %d, the header %d and %d", b.bytes, b.n, bytes, n, h.State, h.Entries)
			}
			for rest := b.content; err == nil && len(rest) > 0; {
				var e raftpb.Entry
				if len(rest) < 4 || int64(binary.LittleEndian.Uint32(rest)) > int64(len(rest)-4) {
					err = b.bad("an entry that is cut off")
					break
				}
				size := 4 + int(binary.LittleEndian.Uint32(rest))
				if err = proto.Unmarshal(rest[4:size], &e); err != nil {
					err = b.bad("an entry: %w", err)
					break
				}
				rest = rest[size:]
				b.n++
				if !yield(&e, nil) {
					return
				}
			}
			if err != nil {
				yield(nil, err)
				return
			}
			b.kind = 0
		}
	}
}
