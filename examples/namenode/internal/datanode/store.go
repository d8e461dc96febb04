// Package datanode is a DataNode: it keeps replicas of blocks, tells every NameNode which, and does what the Active commands, which is
// the one with the newest token.
package datanode

import (
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/baton-ha/baton/examples/namenode/internal/dfs"
	"github.com/baton-ha/baton/fence"
)

// A store is the directory of replicas:
//
//	ID.GEN.rbw        a replica that is being written
//	ID.GEN.SUM.blk    a complete one; SUM is its checksum
//	ID.GEN.tmp        a copy on its way; removed at the start
//	ID.GEN.bad        a complete one that has turned out to be damaged; kept to be looked at
type store struct {
	dir  string
	boot uint64

	mu       sync.Mutex // guards all below; not held during I/O, but for renames and removals
	replicas map[uint64]*replica
	changes  []dfs.Replica // the last ones, up to number
	number   uint64        // of the last change
	changed  chan struct{} // closed with the next change
	obeys    fence.Token   // the newest of which a command was carried out
}

// A replica is one block. It is in the map as long as it is not gone.
type replica struct {
	mu       sync.Mutex // guards what follows, and the file; taken before the store's
	block    dfs.Block  // Len is what is there, Sum is set when it is complete
	complete bool
	gone     bool
	file     *os.File // while it is being written
	recovery uint64   // if not 0: it is being settled under this generation, and writers of earlier ones are late

	told dfs.Replica // what NameNodes are told of it; guarded by the store's mu
}

// maxChanges is how many changes are kept for NameNodes that were not reached for a while; others get all.
const maxChanges = 4096

func openStore(dir string) (*store, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	var boot [8]byte
	rand.Read(boot[:]) // never fails
	s := &store{
		dir: dir, boot: binary.LittleEndian.Uint64(boot[:]),
		replicas: map[uint64]*replica{}, changed: make(chan struct{}),
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if err := s.load(e); err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Join(dir, e.Name()), err)
		}
	}
	return s, nil
}

// load takes in a file that an earlier run has left. What was being written then can be settled, and no writer goes on with it:
// acknowledged packets that were not flushed may be lost.
func (s *store) load(e os.DirEntry) error {
	r := new(replica)
	switch name := e.Name(); filepath.Ext(name) {
	case ".tmp":
		return os.Remove(filepath.Join(s.dir, name))
	case ".blk":
		r.complete = true
		if _, err := fmt.Sscanf(name, "%d.%d.%x.blk", &r.block.ID, &r.block.Gen, &r.block.Sum); err != nil {
			return err
		}
	case ".rbw":
		if _, err := fmt.Sscanf(name, "%d.%d.rbw", &r.block.ID, &r.block.Gen); err != nil {
			return err
		}
	default:
		return nil
	}
	info, err := e.Info()
	if err != nil {
		return err
	}
	r.block.Len = info.Size()
	// Of two files of one block the later generation counts: a crash can leave both.
	if old := s.replicas[r.block.ID]; old != nil {
		if old.block.Gen >= r.block.Gen {
			return os.Remove(filepath.Join(s.dir, e.Name()))
		}
		if err := os.Remove(s.path(old)); err != nil {
			return err
		}
	}
	s.replicas[r.block.ID] = r
	r.told = dfs.Replica{Block: r.block, Complete: r.complete}
	return nil
}

// path is the name of a replica's file.
func (s *store) path(r *replica) string {
	name := fmt.Sprintf("%d.%d.rbw", r.block.ID, r.block.Gen)
	if r.complete {
		name = fmt.Sprintf("%d.%d.%08x.blk", r.block.ID, r.block.Gen, r.block.Sum)
	}
	return filepath.Join(s.dir, name)
}

// become renames a replica's file to what change makes of the replica, durably, and lets the NameNodes know. r.mu is held.
func (s *store) become(r *replica, change func(r *replica)) error {
	after := &replica{block: r.block, complete: r.complete}
	change(after)
	if err := os.Rename(s.path(r), s.path(after)); err != nil {
		return err
	}
	r.block, r.complete = after.block, after.complete
	if err := syncDir(s.dir); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noteLocked(r)
	return nil
}

// noteLocked numbers a change. r.mu is held, too.
func (s *store) noteLocked(r *replica) {
	s.number++
	if len(s.changes) == maxChanges {
		s.changes = slices.Delete(s.changes, 0, maxChanges/2)
	}
	r.told = dfs.Replica{Block: r.block, Complete: r.complete, Gone: r.gone}
	s.changes = append(s.changes, r.told)
	s.wakeLocked()
}

// wakeLocked has the reports sent.
func (s *store) wakeLocked() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// report returns what has changed after a number, or all.
func (s *store) report(after uint64, all bool) (p dfs.Report, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p = dfs.Report{Boot: s.boot, From: after, To: s.number, Obeys: s.obeys, Replicas: []dfs.Replica{}}
	since := s.number - after
	if p.All = all || since > uint64(len(s.changes)); !p.All {
		p.Replicas = slices.Clone(s.changes[len(s.changes)-int(since):])
		return p, s.changed
	}
	for _, r := range s.replicas {
		p.Replicas = append(p.Replicas, r.told)
	}
	slices.SortFunc(p.Replicas, func(a, b dfs.Replica) int { return cmp.Compare(a.ID, b.ID) })
	return p, s.changed
}
