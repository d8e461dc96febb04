//go:build linux

package state

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/hashicorp/go-msgpack/v2/codec"
)

// A record of the log is one byte that says what it is, and its content. Others have no effect.
const (
	kindRecord   = 'r' // a JSON value of the program
	kindSnapshot = 's' // a JSON value that stands for all before it
	kindFirst    = 'b' // a JSON value: the first part of a snapshot in several
	kindPart     = 'm' // another one, neither the first nor the last
	kindLast     = 'e' // the last: then the snapshot counts
	kindFiles    = 'f' // a change of the directory, in msgpack
)

// A change is a commit of the directory, or a piece of one.
type change struct {
	First bool `codec:"first,omitempty"` // what was staged before is dropped
	Last  bool `codec:"last,omitempty"`  // what is staged takes effect
	Ops   []op `codec:"ops,omitempty"`
}

// An op changes one file or directory.
type op struct {
	Path string `codec:"path"` // relative, with '/'
	What what   `codec:"what"`
	Mode uint32 `codec:"mode,omitempty"` // of put: an fs.FileMode
	Size int64  `codec:"size,omitempty"` // of put, for a file
	At   int64  `codec:"at,omitempty"`   // of write
	Data []byte `codec:"data,omitempty"` // of write
}

type what uint8

const (
	put    what = iota + 1 // there is one of this mode and size; what was in it up to there stays
	write                  // a part of its content
	remove                 // it is gone, with everything in it
)

var msgpack = &codec.MsgpackHandle{}

// encode returns a change as a record of the log.
func (c change) encode() ([]byte, error) {
	var b []byte
	err := codec.NewEncoderBytes(&b, msgpack).Encode(c)
	return append([]byte{kindFiles}, b...), err
}

// decodeChange decodes what follows the first byte of a record.
func decodeChange(b []byte) (c change, err error) {
	err = codec.NewDecoderBytes(b, msgpack).Decode(&c)
	return c, err
}

// A checkpoint is the magic, and frames: the index of a record, 8 bytes, its length, 4 bytes, little-endian, and the record. The records are those that make the state out of nothing; an empty one is the end.
const (
	magic     = "baton agent state 1\n"
	frameHead = 8 + 4
	maxFrame  = 64 << 20 // more than any record of a log
)

// A frame is a record of the log, in a checkpoint.
type frame struct {
	index uint64
	data  []byte
}

func (f frame) append(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, f.index)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(f.data)))
	return append(dst, f.data...)
}

func readFrame(r io.Reader) (f frame, err error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return f, fmt.Errorf("it has no end: %w", err)
	}
	f.index = binary.LittleEndian.Uint64(head[:])
	n := binary.LittleEndian.Uint32(head[8:])
	if n > maxFrame {
		return f, fmt.Errorf("a record of %d bytes", n)
	}
	f.data = make([]byte, n)
	if _, err := io.ReadFull(r, f.data); err != nil {
		return f, fmt.Errorf("a record of %d bytes: %w", n, err)
	}
	return f, nil
}
