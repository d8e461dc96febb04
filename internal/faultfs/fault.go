package faultfs

import (
	"maps"
	"math/rand/v2"
	"slices"
)

// A Kind of call.
type Kind int

// The calls that [FS.Inject] is asked about. Datasync counts as OpSync, Lock as OpOpen or OpCreate.
const (
	OpOpen     Kind = iota // of what is there
	OpRead                 // ReadAt, ReadDir
	OpCreate               // OpenFile or Lock of what was not there
	OpMkdir                //
	OpRename               //
	OpRemove               //
	OpWrite                //
	OpTruncate             //
	OpReserve              //
	OpSync                 // of a file
	OpSyncDir              //
)

// String returns the name of the kind.
func (k Kind) String() string {
	return [...]string{"open", "read", "create", "mkdir", "rename", "remove", "write", "truncate", "reserve", "sync", "sync of directory"}[k]
}

// An Op is a call that is about to be made.
type Op struct {
	Kind  Kind
	Name  string // under which the file was opened
	To    string // of a rename
	Off   int64  // of a read or a write
	Size  int64  // of a read or a write; to which a file is cut or made
	Dsync bool   // a write that is to be durable when it returns

	fs   *FS
	node *node
	edit *edit // of a write
}

// Changes tells whether the call changes anything, or makes changes durable.
func (op *Op) Changes() bool { return op.Kind >= OpCreate }

// A Fault is what a call meets. The zero value is none.
type Fault struct {
	Err     error           // with which it fails
	Written int             // bytes of a write that are written all the same
	Forget  bool            // nothing becomes durable by it, and it succeeds
	Until   <-chan struct{} // until it is closed the call, and no other, stands still
}

// Inject has fn asked before each call, nil for nobody. fn must not use the file system but through the Op.
func (s *FS) Inject(fn func(*Op) Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inject = fn
}

// ask asks what op meets. s.mu is held, but not while op stands still.
func (s *FS) ask(op *Op) Fault {
	if s.inject == nil {
		return Fault{}
	}
	op.fs = s
	fault := s.inject(op)
	if fault.Until != nil {
		s.mu.Unlock()
		<-fault.Until
		s.mu.Lock()
	}
	return fault
}

// A Loss says what of that which is not durable is there after a power cut.
type Loss struct {
	Names Keep       // changes of names in directories
	Data  Keep       // changes of files
	Tear  int        // bytes of which a write makes all or none: 512, or 4096; 0 is 512
	Rand  *rand.Rand // for Some and First
}

// Keep says which of a number of changes are kept.
type Keep int

const (
	None  Keep = iota // None of them.
	All               // All of them.
	Some              // Some, each piece of a write by itself, in any combination.
	First             // First are those up to a moment: as Some for data, and for names as a journal keeps them.
	Last              // The last one, in each file and directory, without those before it.
)

// String returns the name of the constant.
func (k Keep) String() string { return [...]string{"None", "All", "Some", "First", "Last"}[k] }

// Crash returns the file system as it may be after a power cut: with everything that is durable, with what l says of the
// rest, and nothing open. The file system itself stays as it is.
func (s *FS) Crash(l Loss) *FS {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.crash(l, &Op{})
}

// Crash is [FS.Crash] at a moment at which the call is under way.
func (op *Op) Crash(l Loss) *FS { return op.fs.crash(l, op) }

func (s *FS) crash(l Loss, during *Op) *FS {
	if l.Tear == 0 {
		l.Tear = 512
	}
	keeper := func(k Keep) func() bool {
		switch k {
		case None, Last:
			return func() bool { return false }
		case All:
			return func() bool { return true }
		}
		likely := l.Rand.IntN(5) // of 4
		return func() bool { return l.Rand.IntN(4) < likely }
	}
	keepName, keepData := keeper(l.Names), keeper(l.Data)
	until := s.synced
	if l.Names == First {
		until += l.Rand.IntN(s.changes - s.synced + 1)
	}
	return s.copy(func(from, to *node, copied func(*node) *node) {
		names := maps.Clone(from.stableNames)
		for i, m := range from.moves {
			if l.Names == First && m.n <= until || l.Names == Last && i == len(from.moves)-1 || l.Names < First && keepName() {
				m.apply(names)
			}
		}
		if from.names != nil {
			to.names, to.stableNames = map[string]*node{}, map[string]*node{}
			for _, name := range slices.Sorted(maps.Keys(names)) { // so that a seed gives the same again
				to.names[name] = copied(names[name])
				to.stableNames[name] = to.names[name]
			}
		}
		c, edits := from.stable.clone(), from.edits
		if during.edit != nil && during.node == from {
			edits = append(slices.Clip(edits), *during.edit)
		}
		for i, e := range edits {
			switch {
			case e.synced, l.Data == Last && i == len(edits)-1:
				c.apply(e, 0, nil)
			case l.Data == Last:
			case e.kind == OpWrite:
				c.apply(e, int64(l.Tear), keepData)
			case keepData():
				c.apply(e, 0, nil)
			}
		}
		to.now, to.stable = c, c.clone()
	})
}

// Kill returns the file system as the next process finds it when this one is killed: as it is, with nothing open, and
// with what is not durable still to be lost. The file system itself stays as it is.
func (s *FS) Kill() *FS {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kill()
}

// Kill is [FS.Kill] before the call is made.
func (op *Op) Kill() *FS { return op.fs.kill() }

func (s *FS) kill() *FS {
	return s.copy(func(from, to *node, copied func(*node) *node) {
		to.now, to.stable, to.edits = from.now.clone(), from.stable.clone(), slices.Clone(from.edits)
		if from.names == nil {
			return
		}
		names := func(of map[string]*node) map[string]*node {
			out := map[string]*node{}
			for name, n := range of {
				out[name] = copied(n)
			}
			return out
		}
		to.names, to.stableNames = names(from.names), names(from.stableNames)
		for _, m := range from.moves {
			m.node = copied(m.node)
			to.moves = append(to.moves, m)
		}
	})
}

// copy makes another file system of the same kind, whose nodes are filled in by fill.
func (s *FS) copy(fill func(from, to *node, copied func(*node) *node)) *FS {
	out := &FS{inodes: s.inodes, changes: s.changes, synced: s.synced, capacity: s.capacity, buffered: s.buffered}
	done := map[*node]*node{}
	var copied func(*node) *node
	copied = func(n *node) *node {
		to := done[n]
		if to == nil {
			to = &node{inode: n.inode}
			done[n] = to
			fill(n, to, copied)
		}
		return to
	}
	out.root = copied(s.root)
	out.used = out.root.space()
	return out
}

// space returns how many bytes of the disk a tree takes.
func (n *node) space() int64 {
	sum := n.now.space()
	for _, child := range n.names {
		sum += child.space()
	}
	return sum
}
