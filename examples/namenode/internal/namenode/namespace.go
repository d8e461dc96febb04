package namenode

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/baton-ha/baton/examples/namenode/internal/dfs"
	"github.com/baton-ha/baton/ha"
)

// A Namespace is the state machine: the files, and the blocks they are made of. Where the blocks are is not in it: that is what
// DataNodes say (blockMap). Directories are what the paths of files say.
//
// The blocks of a file are complete, but for the last one of a file that is open. Its generation is the latest that a whole
// pipeline is known to have taken on.
type Namespace struct {
	mu    sync.RWMutex // guards all below: Answer writes, requests and the Active's work read
	files map[string]*file
	dirs  map[string]int   // how many files are below each directory, if there are any
	owner map[uint64]*file // of each block
	next  uint64           // the next block id or generation stamp: they are never given twice
	index uint64           // of the last record in it
}

// A file is as it is in the image.
type file struct {
	Path        string      `json:"path"`
	Replication int         `json:"replication"`
	Blocks      []dfs.Block `json:"blocks,omitempty"`
	// Holder is the writer, "" if the file is complete. While a writer is being given up it is the Active, under a name that
	// is new with each attempt.
	Holder   string   `json:"holder,omitempty"`
	Pipeline []string `json:"pipeline,omitempty"` // of the last block: the DataNodes that have all that was acknowledged
}

// NewNamespace returns one without files.
func NewNamespace() *Namespace {
	return &Namespace{files: map[string]*file{}, dirs: map[string]int{}, owner: map[uint64]*file{}, next: 1}
}

// put puts a file and its blocks in.
func (n *Namespace) put(f *file) {
	n.files[f.Path] = f
	for dir := path.Dir(f.Path); dir != "/"; dir = path.Dir(dir) {
		n.dirs[dir]++
	}
	for _, b := range f.Blocks {
		n.owner[b.ID] = f
	}
}

// drop takes a file and its blocks out.
func (n *Namespace) drop(f *file) {
	delete(n.files, f.Path)
	for dir := path.Dir(f.Path); dir != "/"; dir = path.Dir(dir) {
		if n.dirs[dir]--; n.dirs[dir] == 0 {
			delete(n.dirs, dir)
		}
	}
	for _, b := range f.Blocks {
		delete(n.owner, b.ID)
	}
}

// Bounds of what clients may ask for.
const (
	maxPath        = 1000
	maxReplication = 16
)

// Apply implements [ha.StateMachine].
func (n *Namespace) Apply(entries []ha.Entry) error {
	_, err := n.Answer(entries)
	return err
}

// Answer implements [ha.Answerer]: each record is a [dfs.Request], and gets a [dfs.Answer].
func (n *Namespace) Answer(entries []ha.Entry) (answers [][]byte, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, e := range entries {
		var q dfs.Request
		if err := json.Unmarshal(e.Data, &q); err != nil {
			return nil, fmt.Errorf("record %d: %w", e.Index, err)
		}
		n.index = e.Index
		b, err := json.Marshal(n.edit(&q))
		if err != nil {
			return nil, fmt.Errorf("record %d: %w", e.Index, err)
		}
		answers = append(answers, b)
	}
	return answers, nil
}

func refuse(code dfs.Code, format string, args ...any) dfs.Answer {
	return dfs.Answer{Code: code, Refused: fmt.Sprintf(format, args...)}
}

func (n *Namespace) edit(q *dfs.Request) dfs.Answer {
	switch q.Op {
	case dfs.Create:
		return n.create(q)
	case dfs.Rename:
		return n.rename(q)
	case dfs.Remove:
		return n.remove(q)
	}
	f := n.files[q.Path]
	switch {
	case f == nil:
		return refuse(dfs.NotFound, "%s", q.Path)
	case q.Op == dfs.Recover && f.Holder == "", q.Op != dfs.Recover && f.Holder != q.Holder, q.Holder == "":
		return refuse(dfs.NotHolder, "%s", q.Path)
	case (q.Op == dfs.Add || q.Op == dfs.Pipeline) && len(q.Nodes) == 0:
		return refuse(dfs.BadRequest, "a pipeline without DataNodes")
	}
	last := f.last()
	switch q.Op {
	case dfs.Recover:
		f.Holder = q.Holder
		if last == nil {
			return dfs.Answer{}
		}
		a := located(dfs.Block{ID: last.ID, Gen: last.Gen}, f.Pipeline)
		a.Recovery = n.stamp()
		return a
	case dfs.Complete:
		if !f.commit(q.Block, n.owner) {
			return refuse(dfs.BadRequest, "that is not the last block of %s", q.Path)
		}
		f.Holder, f.Pipeline = "", nil
		return dfs.Answer{}
	case dfs.Add:
		if !f.commit(q.Block, n.owner) {
			return refuse(dfs.BadRequest, "that is not the last block of %s", q.Path)
		}
		b := dfs.Block{ID: n.stamp()}
		b.Gen = b.ID
		f.Blocks, f.Pipeline = append(f.Blocks, b), q.Nodes
		n.owner[b.ID] = f
		return located(b, f.Pipeline)
	}
	if last == nil {
		return refuse(dfs.BadRequest, "%s has no open block", q.Path)
	}
	switch q.Op {
	case dfs.Generation:
		return located(dfs.Block{ID: last.ID, Gen: n.stamp()}, f.Pipeline)
	case dfs.Pipeline:
		if q.Block == nil || q.Block.ID != last.ID || q.Block.Gen <= last.Gen {
			return refuse(dfs.BadRequest, "that is not the last block of %s", q.Path)
		}
		last.Gen, f.Pipeline = q.Block.Gen, q.Nodes
		return dfs.Answer{}
	case dfs.Abandon:
		delete(n.owner, last.ID)
		f.Blocks, f.Pipeline = f.Blocks[:len(f.Blocks)-1], nil
		return dfs.Answer{}
	}
	return refuse(dfs.BadRequest, "%q is no edit", q.Op)
}

func located(b dfs.Block, pipeline []string) dfs.Answer {
	l := &dfs.Located{Block: b}
	for _, name := range pipeline {
		l.Nodes = append(l.Nodes, dfs.Node{Name: name})
	}
	return dfs.Answer{Block: l}
}

// stamp returns a number that no block or generation has had.
func (n *Namespace) stamp() uint64 {
	n.next++
	return n.next - 1
}

// last returns the block that is being written, nil if there is none.
func (f *file) last() *dfs.Block {
	if f.Holder == "" || len(f.Pipeline) == 0 {
		return nil
	}
	return &f.Blocks[len(f.Blocks)-1]
}

// complete returns the blocks that are.
func (f *file) complete() []dfs.Block {
	if f.last() != nil {
		return f.Blocks[:len(f.Blocks)-1]
	}
	return f.Blocks
}

// commit completes the block that is being written, if there is one: b says what it has become. One without bytes is dropped.
func (f *file) commit(b *dfs.Block, owner map[uint64]*file) bool {
	last := f.last()
	if last == nil || b == nil {
		return last == nil && b == nil
	}
	if b.ID != last.ID || b.Gen < last.Gen {
		return false
	}
	*last = *b
	if b.Len == 0 {
		delete(owner, b.ID)
		f.Blocks = f.Blocks[:len(f.Blocks)-1]
	}
	return true
}

func (n *Namespace) create(q *dfs.Request) dfs.Answer {
	switch {
	case !goodPath(q.Path) || q.Path == "/" || q.Holder == "":
		return refuse(dfs.BadRequest, "a path is absolute, without //, . and .., and of at most %d bytes", maxPath)
	case q.Replication < 1 || q.Replication > maxReplication:
		return refuse(dfs.BadRequest, "replication %d is not 1 to %d", q.Replication, maxReplication)
	case n.taken(q.Path):
		return refuse(dfs.Exists, "%s", q.Path)
	}
	n.put(&file{Path: q.Path, Replication: q.Replication, Holder: q.Holder})
	return dfs.Answer{}
}

// rename moves a file, or all that is below a path. Writers notice that theirs is gone, unless they know the new name.
func (n *Namespace) rename(q *dfs.Request) dfs.Answer {
	moved := n.below(q.Path)
	switch {
	case len(moved) == 0:
		return refuse(dfs.NotFound, "%s", q.Path)
	case !goodPath(q.To) || q.To == "/" || q.Path == "/" || within(q.To, q.Path):
		return refuse(dfs.BadRequest, "rename %s to %s", q.Path, q.To)
	case n.taken(q.To):
		return refuse(dfs.Exists, "%s", q.To)
	}
	for _, f := range moved {
		if to := q.To + strings.TrimPrefix(f.Path, q.Path); len(to) > maxPath {
			return refuse(dfs.BadRequest, "the path %s would be too long", to)
		}
	}
	for _, f := range moved {
		n.drop(f)
		f.Path = q.To + strings.TrimPrefix(f.Path, q.Path)
		n.put(f)
	}
	return dfs.Answer{}
}

func (n *Namespace) remove(q *dfs.Request) dfs.Answer {
	gone := n.below(q.Path)
	if len(gone) == 0 {
		return refuse(dfs.NotFound, "%s", q.Path)
	}
	for _, f := range gone {
		n.drop(f)
	}
	return dfs.Answer{}
}

// below returns the files at or below a path, by name.
func (n *Namespace) below(dir string) []*file {
	if f := n.files[dir]; f != nil {
		return []*file{f} // nothing can be below it
	}
	var list []*file
	for p, f := range n.files {
		if within(p, dir) {
			list = append(list, f)
		}
	}
	slices.SortFunc(list, func(a, b *file) int { return cmp.Compare(a.Path, b.Path) })
	return list
}

// taken reports whether a path is a file or a directory, or has a file above it.
func (n *Namespace) taken(p string) bool {
	for up := path.Dir(p); up != "/"; up = path.Dir(up) {
		if n.files[up] != nil {
			return true
		}
	}
	return n.files[p] != nil || n.dirs[p] > 0
}

// within reports whether a path is dir or below it.
func within(p, dir string) bool {
	return dir == "/" || p == dir || strings.HasPrefix(p, dir+"/")
}

func goodPath(p string) bool {
	return len(p) <= maxPath && strings.HasPrefix(p, "/") && path.Clean(p) == p
}

// maxList is after how many files and blocks an answer to List ends.
const maxList = 1000

// list returns the files at or below a path that come after another.
func (n *Namespace) list(dir, after string) (files []dfs.File, more bool) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	length := 0
	for _, f := range n.below(dir) {
		if f.Path <= after {
			continue
		}
		if length >= maxList {
			return files, true
		}
		length += 1 + len(f.Blocks)
		out := dfs.File{Path: f.Path, Replication: f.Replication, Open: f.Holder != ""}
		for _, b := range f.complete() {
			out.Blocks = append(out.Blocks, dfs.Located{Block: b})
		}
		files = append(files, out)
	}
	return files, false
}

// replication returns at how many DataNodes the blocks of a file should be, 1 if there is no such file.
func (n *Namespace) replication(path string) int {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if f := n.files[path]; f != nil {
		return f.Replication
	}
	return 1
}

// holder returns the writer of a file, "" if there is none.
func (n *Namespace) holder(path string) string {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if f := n.files[path]; f != nil {
		return f.Holder
	}
	return ""
}

// A wanted block is one that should be at so many DataNodes.
type wanted struct {
	dfs.Block
	replication int
	open        bool // it is being written, or its writer is being given up
}

// wants returns all blocks there are, by id.
func (n *Namespace) wants() map[uint64]wanted {
	n.mu.RLock()
	defer n.mu.RUnlock()
	all := make(map[uint64]wanted, len(n.owner))
	for _, f := range n.files {
		for _, b := range f.complete() {
			all[b.ID] = wanted{Block: b, replication: f.Replication}
		}
		if b := f.last(); b != nil {
			all[b.ID] = wanted{Block: *b, replication: f.Replication, open: true}
		}
	}
	return all
}

// held returns the files that are open, with copies of what is known of them.
func (n *Namespace) held() (open []file) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	for _, f := range n.files {
		if f.Holder != "" {
			c := *f
			c.Blocks, c.Pipeline = slices.Clone(f.Blocks), slices.Clone(f.Pipeline)
			open = append(open, c)
		}
	}
	return open
}

// counts returns the number of files and of blocks, and the last record in them.
func (n *Namespace) counts() (files, blocks int, index uint64) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return len(n.files), len(n.owner), n.index
}

// sorted returns all files by name.
func (n *Namespace) sorted() []*file {
	return slices.SortedFunc(maps.Values(n.files), func(a, b *file) int { return cmp.Compare(a.Path, b.Path) })
}
