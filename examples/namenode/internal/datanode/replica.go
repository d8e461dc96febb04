package datanode

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/baton-ha/baton/examples/namenode/internal/dfs"
)

// Errors of what is done to a replica.
var (
	errLate     = errors.New("the generation is an old one")
	errSettling = errors.New("its writer was given up")
)

// find returns a replica and locks it; nil if there is none.
func (s *store) find(id uint64) *replica {
	s.mu.Lock()
	r := s.replicas[id]
	s.mu.Unlock()
	if r == nil {
		return nil
	}
	r.mu.Lock()
	if r.gone {
		r.mu.Unlock()
		return nil
	}
	return r
}

// write writes a packet.
func (s *store) write(p *dfs.Packet) error {
	r := s.find(p.ID)
	if r == nil && (p.At > 0 || p.Was > 0) {
		return dfs.ErrNoReplica
	}
	if r == nil {
		var err error
		if r, err = s.begin(p); err != nil {
			return err
		}
	}
	defer r.mu.Unlock()
	switch {
	case p.Gen < r.block.Gen:
		return errLate
	case p.Gen < r.recovery:
		return errSettling
	case p.Gen > r.block.Gen:
		if err := s.rise(r, p); err != nil {
			return err
		}
	case r.complete && p.Last && r.block.Len == p.At+int64(len(p.Data)) && r.block.Sum == p.Sum:
		return nil // again
	}
	switch {
	case r.complete || r.file == nil:
		return errors.New("the replica is not being written")
	case p.At > r.block.Len:
		return fmt.Errorf("a packet for offset %d, after %d bytes", p.At, r.block.Len)
	}
	if _, err := r.file.WriteAt(p.Data, p.At); err != nil {
		return err
	}
	r.block.Len = max(r.block.Len, p.At+int64(len(p.Data)))
	if p.Sync || p.Last {
		if err := r.file.Sync(); err != nil {
			return err
		}
	}
	if p.Last {
		return s.complete(r, p.Sum)
	}
	return nil
}

// begin makes a replica, and locks it.
func (s *store) begin(p *dfs.Packet) (*replica, error) {
	r := &replica{block: dfs.Block{ID: p.ID, Gen: p.Gen}}
	r.mu.Lock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.replicas[p.ID] != nil {
		r.mu.Unlock()
		return nil, errors.New("two writers at once")
	}
	f, err := os.OpenFile(s.path(r), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o644)
	if err == nil {
		err = syncDir(s.dir)
	}
	if err != nil {
		r.mu.Unlock()
		return nil, err
	}
	r.file = f
	s.replicas[p.ID] = r
	s.noteLocked(r)
	return r, nil
}

// rise takes a replica on to a later generation, at the writer's word, and drops what was not acknowledged.
func (s *store) rise(r *replica, p *dfs.Packet) error {
	switch {
	case p.Was == 0 || r.block.Gen < p.Was:
		return dfs.ErrNoReplica // it is one that was left behind
	case p.At > r.block.Len:
		return fmt.Errorf("%d bytes are acknowledged, and %d are here", p.At, r.block.Len)
	case r.file == nil && !r.complete:
		return errors.New("the replica was begun before a restart")
	}
	wasComplete := r.complete
	if err := s.become(r, func(r *replica) { r.block.Gen, r.block.Sum, r.complete = p.Gen, 0, false }); err != nil {
		return err
	}
	if wasComplete {
		var err error
		if r.file, err = os.OpenFile(s.path(r), os.O_RDWR, 0); err != nil {
			return err
		}
	}
	r.block.Len = p.At
	return r.file.Truncate(p.At)
}

// complete checks a replica that is on the disk and makes it a complete one. r.file is open, and closed then.
func (s *store) complete(r *replica, sum uint32) error {
	have, err := sumOf(r.file, r.block.Len)
	if err != nil {
		return err
	}
	if have != sum {
		return dfs.ErrDamaged
	}
	if err := s.become(r, func(r *replica) { r.block.Sum, r.complete = sum, true }); err != nil {
		return err
	}
	f := r.file
	r.file = nil
	return f.Close()
}

// prepare begins to settle a replica.
func (s *store) prepare(q dfs.Prepare) (dfs.Prepared, error) {
	r := s.find(q.Block.ID)
	if r == nil {
		return dfs.Prepared{}, nil
	}
	defer r.mu.Unlock()
	switch {
	case r.block.Gen < q.Block.Gen:
		return dfs.Prepared{}, nil
	case r.recovery > q.Recovery || r.block.Gen >= q.Recovery:
		return dfs.Prepared{}, errLate
	}
	r.recovery = q.Recovery
	return dfs.Prepared{There: true, Len: r.block.Len}, nil
}

// settle completes a replica that was prepared.
func (s *store) settle(q dfs.Settle) (dfs.Block, error) {
	r := s.find(q.ID)
	if r == nil {
		return dfs.Block{}, dfs.ErrNoReplica
	}
	defer r.mu.Unlock()
	switch {
	case r.complete && r.block.Gen == q.Recovery && r.block.Len == q.Len:
		return r.block, nil // again
	case r.recovery != q.Recovery || q.Len > r.block.Len:
		return dfs.Block{}, errLate
	}
	if r.file == nil {
		var err error
		if r.file, err = os.OpenFile(s.path(r), os.O_RDWR, 0); err != nil {
			return dfs.Block{}, err
		}
	}
	err := r.file.Truncate(q.Len)
	if err == nil {
		r.block.Len = q.Len
		err = r.file.Sync()
	}
	if err == nil {
		err = s.become(r, func(r *replica) { r.block.Gen, r.block.Sum, r.complete = q.Recovery, 0, false })
	}
	if err != nil {
		return dfs.Block{}, err
	}
	sum, err := sumOf(r.file, q.Len)
	if err == nil {
		err = s.complete(r, sum)
	}
	return r.block, err
}

// remove drops a replica of a generation or an older one.
func (s *store) remove(b dfs.Block) error {
	r := s.find(b.ID)
	if r == nil {
		return nil
	}
	defer r.mu.Unlock()
	if r.block.Gen > b.Gen {
		return nil
	}
	return s.leave(r, func(path string) error { return os.Remove(path) })
}

// leave takes a replica out of the store. r.mu is held.
func (s *store) leave(r *replica, away func(path string) error) error {
	if err := away(s.path(r)); err != nil {
		return err
	}
	if r.file != nil {
		r.file.Close()
	}
	if err := syncDir(s.dir); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r.gone = true
	delete(s.replicas, r.block.ID)
	s.noteLocked(r)
	return nil
}

// copy fetches a replica from another DataNode.
func (s *store) copy(ctx context.Context, q dfs.Copy) error {
	if r := s.find(q.Block.ID); r != nil {
		defer r.mu.Unlock()
		if r.complete && r.block == q.Block {
			return nil
		}
		return errors.New("there is another replica of the block")
	}
	data, err := dfs.Fetch(ctx, q.Block, q.From)
	if err != nil {
		return err
	}
	temporary := filepath.Join(s.dir, fmt.Sprintf("%d.%d.tmp", q.Block.ID, q.Block.Gen))
	f, err := os.Create(temporary)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil && ctx.Err() != nil { // a newer Active is here
		err = context.Cause(ctx)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	r := &replica{block: q.Block, complete: true}
	r.mu.Lock()
	defer r.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.replicas[q.Block.ID] != nil {
		return os.Remove(temporary)
	}
	if err := os.Rename(temporary, s.path(r)); err != nil {
		return err
	}
	if err := syncDir(s.dir); err != nil {
		return err
	}
	s.replicas[q.Block.ID] = r
	s.noteLocked(r)
	return nil
}

// read writes a complete replica to w. One that turns out to be damaged is put aside.
func (s *store) read(id, gen uint64, w io.Writer) error {
	r := s.find(id)
	if r == nil {
		return dfs.ErrNoReplica
	}
	if !r.complete || r.block.Gen != gen {
		r.mu.Unlock()
		return dfs.ErrNoReplica
	}
	b := r.block
	f, err := os.Open(s.path(r))
	r.mu.Unlock() // the file may be read while it is removed
	if err != nil {
		return err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, dfs.MaxBlock))
	if err != nil {
		return err
	}
	if int64(len(data)) == b.Len && dfs.Sum(0, data) == b.Sum {
		_, err = w.Write(data)
		return err
	}
	if r := s.find(id); r != nil {
		defer r.mu.Unlock()
		if r.block == b {
			err = s.leave(r, func(path string) error { return os.Rename(path, strings.TrimSuffix(path, ".blk")+".bad") })
		}
	}
	return errors.Join(dfs.ErrDamaged, err)
}

// sumOf reads the checksum of the first n bytes of a file.
func sumOf(f *os.File, n int64) (sum uint32, err error) {
	section, buf := io.NewSectionReader(f, 0, n), make([]byte, 64<<10)
	for {
		k, err := section.Read(buf)
		sum = dfs.Sum(sum, buf[:k])
		switch {
		case err == io.EOF:
			return sum, nil
		case err != nil:
			return 0, err
		}
	}
}

// syncDir makes names durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
