package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/baton-ha/baton/internal/vfs"
	"github.com/hashicorp/go-msgpack/v2/codec"
)

// The names in a member's directory.
const (
	lockName     = "LOCK"
	creatingName = "creating" // there from before the first to after the last step of the creation
	identityName = "identity"
	markName     = "mark"
	walName      = "wal"
	snapName     = "snap"
)

// EventsDir is the name of a directory in a member's directory that is not ours: what is in it is neither read nor checked.
const EventsDir = "events"

const formatVersion = 1

// Identity says whose directory it is. It is written once, at the creation.
type Identity struct {
	Cluster     string `codec:"Cluster" json:"cluster"`
	Member      string `codec:"Member" json:"member"`
	ID          uint64 `codec:"ID" json:"id"`                   // raft id, not zero
	Incarnation uint64 `codec:"Incarnation" json:"incarnation"` // random, not zero, chosen by the caller at the creation
}

func (id Identity) validate() error {
	if id.Cluster == "" || id.Member == "" || id.ID == 0 || id.Incarnation == 0 {
		return fmt.Errorf("storage: incomplete identity %+v", id)
	}
	return nil
}

// identityBody is what the identity file holds.
type identityBody struct {
	Identity  Identity          `codec:"identity"`
	ClusterID []byte            `codec:"cluster_id"`
	Peers     map[string]uint64 `codec:"peers"`
	Unborn    bool              `codec:"unborn,omitempty"` // absent in directories from before there was a birth: those are born
	Birth     map[string]uint64 `codec:"birth,omitempty"`
	Promised  int64             `codec:"promised,omitempty"` // nanoseconds; absent in directories from before it was kept
}

var identityMagic = []byte("BATONID\x00")

func newHandle() *codec.MsgpackHandle {
	h := &codec.MsgpackHandle{WriteExt: true}
	h.Canonical = true
	return h
}

func (b *identityBody) encode() ([]byte, error) {
	var body []byte
	if err := codec.NewEncoderBytes(&body, newHandle()).Encode(b); err != nil {
		return nil, err
	}
	out := append([]byte{}, identityMagic...)
	out = binary.LittleEndian.AppendUint32(out, formatVersion)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(body)))
	out = append(out, body...)
	return binary.LittleEndian.AppendUint32(out, crc32.Checksum(out, castagnoli)), nil
}

func (d disk) readIdentity(dir string) (*identityBody, error) {
	name := filepath.Join(dir, identityName)
	b, err := d.readFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, corrupt(name, 0, "missing")
	}
	if err != nil {
		return nil, fileError(name, 0, err)
	}
	end := len(b) - 4
	if end < 16 || crc32.Checksum(b[:end], castagnoli) != binary.LittleEndian.Uint32(b[end:]) {
		return nil, corrupt(name, 0, "bad checksum")
	}
	if !bytes.Equal(b[:8], identityMagic) {
		return nil, corrupt(name, 0, "bad magic")
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != formatVersion {
		return nil, fmt.Errorf("storage: %s has format version %d, this program knows %d", name, v, formatVersion)
	}
	if int(binary.LittleEndian.Uint32(b[12:])) != end-16 {
		return nil, corrupt(name, 12, "bad length")
	}
	var body identityBody
	err = guard("decode", func() error { return codec.NewDecoderBytes(b[16:end], newHandle()).Decode(&body) })
	if err != nil {
		return nil, &CorruptError{File: name, Offset: 16, Err: err}
	}
	if len(body.ClusterID) != 0 && len(body.ClusterID) != 16 {
		return nil, corrupt(name, 16, "cluster id of %d bytes", len(body.ClusterID))
	}
	return &body, nil
}

// metadata is the identity as each WAL segment carries it. The zero byte in front is no valid protobuf, so that a damaged
// record type cannot make a hard state or an entry of it.
func (id Identity) metadata() []byte {
	out := []byte{0, formatVersion}
	out = binary.LittleEndian.AppendUint64(out, id.ID)
	out = binary.LittleEndian.AppendUint64(out, id.Incarnation)
	out = binary.LittleEndian.AppendUint16(out, uint16(len(id.Cluster)))
	out = append(out, id.Cluster...)
	return append(out, id.Member...)
}

func parseMetadata(b []byte) (Identity, bool) {
	if len(b) < 20 || b[0] != 0 || b[1] != formatVersion {
		return Identity{}, false
	}
	n := int(binary.LittleEndian.Uint16(b[18:]))
	if n > len(b)-20 {
		return Identity{}, false
	}
	return Identity{
		Cluster: string(b[20 : 20+n]), Member: string(b[20+n:]),
		ID: binary.LittleEndian.Uint64(b[2:]), Incarnation: binary.LittleEndian.Uint64(b[10:]),
	}, true
}

type dirState int

const (
	dirEmpty    dirState = iota // absent, nothing in it, or the leftovers of an unfinished creation
	dirComplete                 // has an identity
	dirHeadless                 // ours, but the identity is gone
)

func (d disk) classify(dir string) (dirState, error) {
	entries, err := d.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return dirEmpty, nil
	}
	if err != nil {
		return 0, fmt.Errorf("storage: %w", err)
	}
	var creating, content bool
	var foreign string
	for _, e := range entries {
		switch name := e.Name(); {
		case name == identityName:
			return dirComplete, nil
		case name == creatingName:
			creating = true
		case name == lockName, name == creatingName+".tmp", name == EventsDir, notOurs(name), isAside(name):
		case name == snapName, name == walName:
			holds, err := d.holdsOurs(filepath.Join(dir, name))
			if err != nil {
				return 0, fmt.Errorf("storage: %w", err)
			}
			content = content || holds
		case name == markName, name == identityName+".tmp", name == condemnedName, name == condemnedName+".tmp":
			content = true
		case foreign == "":
			foreign = name
		}
	}
	switch {
	case foreign != "":
		return 0, fmt.Errorf("%w: %s", ErrForeign, filepath.Join(dir, foreign))
	case content && !creating:
		return dirHeadless, nil
	}
	return dirEmpty, nil
}

// notOurs reports whether a name is of what is found in directories without anybody having put it there: lost+found in the
// root of a file system, and hidden names such as .snapshot. Such files are let be.
func notOurs(name string) bool { return name == "lost+found" || strings.HasPrefix(name, ".") }

// holdsOurs reports whether there is anything in the directory of segments or snapshots. An empty one may have been made
// beforehand, to mount a file system there.
func (d disk) holdsOurs(dir string) (bool, error) {
	entries, err := d.ReadDir(dir)
	return slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return !notOurs(e.Name()) }), err
}

// Empty tells whether Open would create a new member in dir: dir is absent, holds nothing, or only what an interrupted
// creation left. It writes nothing. The error is ErrForeign when dir holds files that are not ours.
func Empty(dir string) (bool, error) {
	s, err := disk{vfs.OS}.classify(dir)
	return s == dirEmpty && err == nil, err
}

// Read returns whose directory dir is. It neither locks nor writes. The error matches fs.ErrNotExist when dir is empty.
func Read(dir string) (Identity, error) {
	d := disk{vfs.OS}
	s, err := d.classify(dir)
	if err != nil {
		return Identity{}, err
	}
	if s == dirEmpty {
		return Identity{}, fmt.Errorf("storage: no identity in %s: %w", dir, fs.ErrNotExist)
	}
	body, err := d.readIdentity(dir)
	if err != nil {
		return Identity{}, err
	}
	return body.Identity, nil
}

// Identity returns whose directory it is.
func (w *WAL) Identity() Identity { return w.id }

// ClusterID returns the id set with SetClusterID, zero until then.
func (w *WAL) ClusterID() (id [16]byte) {
	copy(id[:], w.body.Load().ClusterID)
	return id
}

// SetClusterID makes the cluster id durable. Setting the same one again is nothing; another one is ErrClusterID.
func (w *WAL) SetClusterID(id [16]byte) error {
	w.idMu.Lock()
	defer w.idMu.Unlock()
	if id == [16]byte{} {
		return errors.New("storage: zero cluster id")
	}
	next := *w.body.Load()
	if have := next.ClusterID; have != nil && !bytes.Equal(have, make([]byte, 16)) {
		if bytes.Equal(have, id[:]) {
			return nil
		}
		return fmt.Errorf("%w: %s has %x, not %x", ErrClusterID, w.dir, have, id)
	}
	next.ClusterID = id[:]
	return w.putBodyLocked(&next)
}

// Birth tells whether the member was born, that is whether it may take part in its cluster, and the incarnations of those
// who were born together with it, its own included. There are none if it joined later, or before there was a birth.
func (w *WAL) Birth() (together map[string]uint64, born bool) {
	body := w.body.Load()
	return maps.Clone(body.Birth), !body.Unborn
}

// Bear makes it durable that the member is born, with whom, nil if it joins later, and whom it has met.
func (w *WAL) Bear(together, met map[string]uint64) error {
	w.idMu.Lock()
	defer w.idMu.Unlock()
	next := *w.body.Load()
	next.Unborn, next.Birth = false, maps.Clone(together)
	next.Peers = maps.Clone(next.Peers)
	if next.Peers == nil {
		next.Peers = map[string]uint64{}
	}
	maps.Copy(next.Peers, met)
	return w.putBodyLocked(&next)
}

// Promised returns what was kept with KeepPromised, 0 if nothing was.
func (w *WAL) Promised() time.Duration {
	return time.Duration(w.body.Load().Promised)
}

// KeepPromised makes durable how long the promises of this member last at most. After an error the former value may
// be kept as well as this one, and the storage can be used on.
func (w *WAL) KeepPromised(d time.Duration) error {
	w.idMu.Lock()
	defer w.idMu.Unlock()
	next := *w.body.Load()
	if next.Promised == int64(d) {
		return nil
	}
	next.Promised = int64(d)
	return w.putBodyLocked(&next)
}

// Peers returns the incarnation of each member met so far. The map is the caller's.
func (w *WAL) Peers() map[string]uint64 {
	out := maps.Clone(w.body.Load().Peers)
	if out == nil {
		out = map[string]uint64{}
	}
	return out
}

// Meet remembers, durably, the incarnation of a member at the first meeting. It returns a *StrangerError when the member
// was met before with another one. Only the first meeting waits for the disk: whoever was met before is known in memory.
func (w *WAL) Meet(name string, incarnation uint64) error {
	if known, err := w.body.Load().meets(name, incarnation); known {
		return err
	}
	w.idMu.Lock()
	defer w.idMu.Unlock()
	next := *w.body.Load()
	if known, err := next.meets(name, incarnation); known { // meanwhile
		return err
	}
	next.Peers = maps.Clone(next.Peers)
	if next.Peers == nil {
		next.Peers = map[string]uint64{}
	}
	next.Peers[name] = incarnation
	return w.putBodyLocked(&next)
}

// meets reports whether a member was met before, and if so, whether it is the same.
func (b *identityBody) meets(name string, incarnation uint64) (known bool, err error) {
	was, known := b.Peers[name]
	if known && was != incarnation {
		err = &StrangerError{Member: name, Known: was, Got: incarnation}
	}
	return known, err
}

// putBodyLocked writes the identity file, wholly or not at all. After an error it holds the one or the other: it can be tried
// again.
func (w *WAL) putBodyLocked(next *identityBody) error {
	if err := w.usable(); err != nil {
		return err
	}
	b, err := next.encode()
	if err != nil {
		return fmt.Errorf("storage: encode identity: %w", err)
	}
	if err := w.disk.writeFile(filepath.Join(w.dir, identityName), b); err != nil {
		return fmt.Errorf("storage: write identity: %w", err)
	}
	w.body.Store(next)
	return nil
}
