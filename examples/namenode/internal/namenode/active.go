package namenode

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/baton-ha/baton/examples/namenode/internal/dfs"
	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/fence/httpfence"
	"github.com/baton-ha/baton/ha"
)

// This file is what the Active decides, and it alone: which replicas are copied and deleted, and what becomes of files whose writers have
// died. All commands carry its token, and DataNodes obey only the newest. That is the third of HDFS's fences.

const (
	period         = 100 * time.Millisecond // between two looks at what there is to do
	commandTimeout = 5 * time.Second
	copyTimeout    = time.Minute
	recoverPause   = time.Second // after an attempt to take a file from its writer that has failed
	maxCopies      = 32          // at a time
)

// An active is one tenure.
type active struct {
	*Server
	node    *ha.Node
	token   fence.Token
	command *http.Client
	began   time.Time
	tries   int            // of recoveries
	work    sync.WaitGroup // what is under way

	mu      sync.Mutex          // guards what follows: commands are waited for beside the loop
	obeying map[string]obedient // by DataNode
	busy    map[uint64]bool     // blocks that are being copied or settled
}

// An obedient is how far a DataNode is known to have done what it was told.
type obedient struct {
	number  uint64 // of the last command
	waiting bool   // for its answer
	boot    uint64 // with change: the report in which its effect is, as the answer says
	change  uint64 // MaxUint64: there was no answer
}

// done reports whether the DataNode has reported the effect of the last command.
func (o obedient) done(n *reported) bool {
	return !o.waiting && o.boot == n.boot && o.change <= n.change
}

// lost reports whether a command is needed to know what the DataNode has done: there was none yet, or there was no answer, or it was
// started anew.
func (o obedient) lost(n *reported) bool {
	return !o.waiting && (o.boot != n.boot || o.change == math.MaxUint64)
}

// lead is OnActive: it runs until the role ends.
func (s *Server) lead(ctx context.Context, token fence.Token) error {
	a := newActive(s, ha.FromContext(ctx), token)
	defer a.command.CloseIdleConnections()
	defer a.work.Wait()
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		a.rule(ctx)
		a.recoverFiles(ctx)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func newActive(s *Server, node *ha.Node, token fence.Token) *active {
	return &active{
		Server: s, node: node, token: token, began: time.Now(),
		command: &http.Client{Transport: &httpfence.Transport{Token: token, Base: &http.Transport{MaxIdleConnsPerHost: 16}}},
		obeying: map[string]obedient{}, busy: map[uint64]bool{},
	}
}

// rule has DataNodes copy and delete what they should. One that is not known to obey this Active is asked to: until it has reported
// that it does, nobody knows what an earlier Active has made it do.
func (a *active) rule(ctx context.Context) {
	addr := alive(a.node)
	a.mu.Lock()
	defer a.mu.Unlock()
	p, todo := a.planLocked(addr)
	for name, n := range p.nodes {
		if blocks := todo.deletes[name]; len(blocks) > 0 || a.obeying[name].lost(n) {
			a.deleteLocked(ctx, dfs.Node{Name: name, Addr: addr[name]}, blocks)
		}
	}
	for _, c := range todo.copies {
		if len(a.busy) < maxCopies {
			a.copyLocked(ctx, c, addr)
		}
	}
}

// planLocked plans for the DataNodes that are alive. The namespace is read after the reports: a block that is in a report was in the
// namespace before, and if it is not now, its file was removed.
func (a *active) planLocked(addr map[string]string) (*picture, plan) {
	a.blocks.mu.Lock()
	defer a.blocks.mu.Unlock()
	p := &picture{wants: a.names.wants(), nodes: map[string]*reported{}, certain: map[string]bool{}, busy: a.busy}
	for name := range addr {
		if n := a.blocks.nodes[name]; n != nil {
			p.nodes[name] = n
			p.certain[name] = a.obeying[name].done(n)
		}
	}
	return p, p.plan()
}

// deleteLocked commands a DataNode to delete.
func (a *active) deleteLocked(ctx context.Context, n dfs.Node, blocks []dfs.Block) {
	number := a.commandedLocked(n.Name)
	a.work.Go(func() {
		var done dfs.Deleted
		err := a.order(ctx, commandTimeout, n, "/delete", dfs.Delete{Number: number, Blocks: blocks}, &done)
		a.mu.Lock()
		defer a.mu.Unlock()
		a.answeredLocked(n.Name, done, err)
	})
}

// commandedLocked counts a command to a DataNode, and returns its number. The DataNode is uncertain until it has reported what came of it.
func (a *active) commandedLocked(name string) uint64 {
	o := a.obeying[name]
	o.number, o.waiting, o.change = o.number+1, true, math.MaxUint64
	a.obeying[name] = o
	return o.number
}

// answeredLocked notes the answer to it. Where there was none the next command's will do: it is not carried out after that any more.
func (a *active) answeredLocked(name string, done dfs.Deleted, err error) {
	o := a.obeying[name]
	if o.waiting = false; err == nil {
		o.boot, o.change = done.Boot, done.Change
	}
	a.obeying[name] = o
}

// copyLocked commands a DataNode to fetch a replica from another.
func (a *active) copyLocked(ctx context.Context, c copyOrder, addr map[string]string) {
	a.busy[c.block.ID] = true
	a.work.Go(func() {
		err := a.order(ctx, copyTimeout, dfs.Node{Name: c.to, Addr: addr[c.to]}, "/copy", dfs.Copy{Block: c.block, From: addr[c.from]}, nil)
		if err == nil {
			slog.Info("block copied", "block", c.block.ID, "from", c.from, "to", c.to)
		}
		a.free(c.block.ID)
	})
}

func (a *active) free(block uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.busy, block)
}

// order sends a command and waits for the answer. What has failed is said here; it is tried again, if it is still wanted, with the next look.
func (a *active) order(ctx context.Context, timeout time.Duration, n dfs.Node, path string, q, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := command(ctx, a.command, n, path, q, answer)
	if err != nil && ctx.Err() == nil {
		slog.Warn("command failed", "command", path, "datanode", n.Name, "err", err)
	}
	return err
}

// command sends a command. A refusal because of the token is a *[fence.StaleError].
func command(ctx context.Context, with *http.Client, n dfs.Node, path string, q, answer any) error {
	body, err := json.Marshal(q)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+n.Addr+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := with.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := httpfence.Check(resp); err != nil {
		return err
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	switch {
	case err != nil:
		return err
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("%s: %s", resp.Status, strings.TrimSpace(string(text)))
	case answer == nil:
		return nil
	}
	return json.Unmarshal(text, answer)
}

// recoverFiles takes files from writers whose lease is over.
func (a *active) recoverFiles(ctx context.Context) {
	for _, f := range a.leases.over(a.names.held(), a.began, a.Lease) {
		a.mu.Lock()
		last := f.last()
		take := last == nil || !a.busy[last.ID]
		if take && last != nil {
			a.busy[last.ID] = true
		}
		a.mu.Unlock()
		if !take {
			continue
		}
		a.tries++
		holder := fmt.Sprintf("recovery %d by %s", a.tries, a.token)
		a.work.Go(func() {
			if err := a.recoverFile(ctx, f.Path, holder); err != nil && ctx.Err() == nil {
				slog.Warn("a file could not be taken from its writer", "path", f.Path, "err", err)
				select { // each attempt is in the log
				case <-time.After(recoverPause):
				case <-ctx.Done():
				}
			}
			if last != nil {
				a.free(last.ID)
			}
		})
	}
}

// recoverFile completes a file whose writer is silent. Its last block is settled: the DataNodes of its pipeline let no older writer go on with
// it, and keep as many bytes as each of them has. All that the writer was told to be flushed is among them, because all of the pipeline
// acknowledged it. It is HDFS's lease recovery and block recovery. If it fails midway it is begun again, by whoever is Active, under a later generation.
func (a *active) recoverFile(ctx context.Context, path, holder string) error {
	ctx, cancel := context.WithTimeout(ctx, 4*commandTimeout)
	defer cancel()
	taken, err := a.edit(ctx, a.node, a.token, &dfs.Request{Op: dfs.Recover, Path: path, Holder: holder})
	if err != nil || taken.Code != 0 {
		return errors.Join(err, refusal(taken)) // refused: it was completed meanwhile, or removed
	}
	var block *dfs.Block
	if taken.Block != nil {
		if block, err = a.settle(ctx, alive(a.node), taken.Block, taken.Recovery); err != nil {
			return err
		}
	}
	done, err := a.edit(ctx, a.node, a.token, &dfs.Request{Op: dfs.Complete, Path: path, Holder: holder, Block: block})
	if err == nil {
		err = refusal(done)
	}
	if err == nil {
		slog.Info("file taken from its silent writer", "path", path, "last", block)
	}
	return err
}

func refusal(a dfs.Answer) error {
	if a.Code == 0 {
		return nil
	}
	return fmt.Errorf("%v: %s", a.Code, a.Refused)
}

// settle finds out what the last block has become.
func (a *active) settle(ctx context.Context, addr map[string]string, b *dfs.Located, recovery uint64) (*dfs.Block, error) {
	var have []dfs.Node // that have a replica
	asked, length := 0, int64(math.MaxInt64)
	for _, n := range b.Nodes {
		n.Addr = addr[n.Name]
		var p dfs.Prepared
		if n.Addr == "" || a.order(ctx, commandTimeout, n, "/prepare", dfs.Prepare{Block: b.Block, Recovery: recovery}, &p) != nil {
			continue
		}
		if asked++; p.There {
			have, length = append(have, n), min(length, p.Len)
		}
	}
	switch {
	case asked == 0:
		return nil, errors.New("no DataNode of the pipeline answers")
	case len(have) == 0 || length == 0: // one of the pipeline has no byte, so none was acknowledged
		return &dfs.Block{ID: b.ID, Gen: recovery}, nil
	}
	var settled *dfs.Block
	for _, n := range have {
		var now dfs.Block
		if a.order(ctx, commandTimeout, n, "/settle", dfs.Settle{ID: b.ID, Recovery: recovery, Len: length}, &now) == nil {
			settled = &now
		}
	}
	if settled == nil {
		return nil, errors.New("no DataNode has settled its replica")
	}
	return settled, nil
}
