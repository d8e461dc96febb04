package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/baton-ha/baton/examples/internal/demo"
	"github.com/baton-ha/baton/examples/namenode/internal/dfs"
	"github.com/baton-ha/baton/examples/namenode/internal/namenode"
	"github.com/baton-ha/baton/ha/client"
)

const (
	writers     = 4
	replication = 3
	blockSize   = 128 << 10
	packetSize  = 32 << 10
	lease       = 8 * time.Second        // of writers: longer than a client takes to turn from an Active that is stopped
	heartbeat   = 200 * time.Millisecond // of DataNodes
	soon        = 30 * time.Second       // bounds everything that should happen at last
)

// A script is the demonstration: writers, and what happens to NameNodes and DataNodes meanwhile.
type script struct {
	*demo.Cluster
	names, data []*demo.Member
	fs          *dfs.Client
	web         *http.Client
	pages       bool      // the NameNodes' are to be looked at
	died        time.Time // the writer of abandoned

	mu      sync.Mutex // guards all below
	written map[string][sha256.Size]byte
	bytes   int64
	slowest time.Duration
	err     error
}

func runDemo(pages bool) int {
	return demo.RunEmpty("namenode", func(ctx context.Context, c *demo.Cluster) (string, error) {
		s := &script{Cluster: c, pages: pages, web: &http.Client{Timeout: soon}, written: map[string][sha256.Size]byte{}}
		return s.run(ctx)
	})
}

func (s *script) run(ctx context.Context) (string, error) {
	names, err := s.start(ctx)
	if err != nil {
		return "", err
	}
	defer names.Close()
	s.fs = dfs.NewClient(names)
	s.fs.BlockSize, s.fs.PacketSize = blockSize, packetSize

	writing, endWrite := context.WithCancel(ctx)
	defer endWrite()
	var work sync.WaitGroup
	defer work.Wait()
	for w := 1; w <= writers; w++ {
		work.Go(func() { s.write(ctx, writing, w) })
	}
	for _, step := range []func(context.Context) error{s.hot, s.kill, s.late, s.abandon, s.replicate, s.taken} {
		if err := demo.Pace(ctx, time.Second); err != nil {
			return "", err
		}
		if err := step(ctx); err != nil {
			return "", err
		}
	}
	endWrite()
	work.Wait()
	return s.verify(ctx)
}

// start starts three NameNodes and four DataNodes.
func (s *script) start(ctx context.Context) (*client.Client, error) {
	addrs, err := demo.FreeAddrs(7)
	if err != nil {
		return nil, err
	}
	nameAddrs, dataAddrs := addrs[:3], addrs[3:]
	members := fmt.Sprintf("a=%s,b=%s,c=%s", nameAddrs[0], nameAddrs[1], nameAddrs[2])
	for i, addr := range nameAddrs {
		s.names = append(s.names, s.Add(string(rune('a'+i)), addr, "namenode", "-members", members, "-lease", lease.String(),
			"-checkpoint", "65536", "-late"))
	}
	for i, addr := range dataAddrs {
		s.data = append(s.data, s.Add(fmt.Sprintf("d%d", i+1), addr, "datanode", "-listen", addr,
			"-namenodes", strings.Join(nameAddrs, ","), "-heartbeat", heartbeat.String()))
	}
	if err := s.StartAll(); err != nil {
		return nil, err
	}
	c, err := client.Dial(ctx, client.Config{Cluster: "dfs", Addrs: nameAddrs})
	if err != nil {
		return nil, err
	}
	_, st, err := s.active(ctx, 0)
	if err == nil {
		err = s.all(ctx, "every NameNode hears of every DataNode", func(st namenode.Status) bool { return len(st.DataNodes) == len(s.data) })
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	s.Printf("started the NameNodes a, b, c and the DataNodes d1 to d4; %s is Active in epoch %d", st.Name, st.Epoch)
	if s.pages {
		s.ShowPages("/admin/", s.names)
	}
	return c, nil
}

// write is one writer: one file after the other, of up to five blocks, each acknowledged by Put.
func (s *script) write(ctx, writing context.Context, w int) {
	for n := 1; demo.Pace(writing, 50*time.Millisecond) == nil; n++ {
		path := fmt.Sprintf("/w%d/%04d", w, n)
		data := make([]byte, rand.IntN(5*blockSize))
		for i := range data {
			data[i] = byte(rand.Uint32())
		}
		began := time.Now()
		err := s.fs.Put(ctx, path, replication, bytes.NewReader(data))
		s.mu.Lock()
		if err != nil {
			s.err = errors.Join(s.err, fmt.Errorf("writer %d: %w", w, err))
			s.mu.Unlock()
			return
		}
		s.written[path] = sha256.Sum256(data)
		s.bytes += int64(len(data))
		s.slowest = max(s.slowest, time.Since(began))
		s.mu.Unlock()
	}
}

// files returns how many files are acknowledged, and the error of the first writer that has failed.
func (s *script) files() (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.written), s.err
}

// more waits until files have been acknowledged that were begun after the call.
func (s *script) more(ctx context.Context) error {
	before, err := s.files()
	return errors.Join(err, demo.Await(ctx, "files are written", soon, func() bool {
		now, err := s.files()
		return err != nil || now > before+writers
	}))
}

// status asks one NameNode.
func (s *script) status(ctx context.Context, m *demo.Member) (st namenode.Status, err error) {
	ctx, cancel := context.WithTimeout(ctx, demo.Attempt) // a paused one does not answer
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+m.HTTP+"/status", nil)
	if err != nil {
		return st, err
	}
	resp, err := s.web.Do(req)
	if err != nil {
		return st, err
	}
	defer resp.Body.Close()
	return st, json.NewDecoder(resp.Body).Decode(&st)
}

// active waits until a NameNode is Active in an epoch after the one given, and returns it.
func (s *script) active(ctx context.Context, after uint64) (m *demo.Member, st namenode.Status, err error) {
	err = demo.Await(ctx, "a NameNode becomes Active", soon, func() bool {
		for _, m = range s.names {
			if st, err = s.status(ctx, m); err == nil && st.State == "Active" && st.Epoch > after {
				return true
			}
		}
		return false
	})
	return m, st, err
}

// all waits until every NameNode says what is wanted.
func (s *script) all(ctx context.Context, what string, ok func(namenode.Status) bool) error {
	return demo.Await(ctx, what, soon, func() bool {
		for _, m := range s.names {
			if st, err := s.status(ctx, m); err != nil || !ok(st) {
				return false
			}
		}
		return true
	})
}

// hot shows that the Standbys know where the blocks are.
func (s *script) hot(ctx context.Context) error {
	if err := s.more(ctx); err != nil {
		return err
	}
	for _, m := range s.names {
		st, err := s.status(ctx, m)
		if err != nil {
			return err
		}
		s.Printf("  %s, %-7s: %d files, %d blocks, and from the DataNodes themselves: %d replicas", st.Name, st.State, st.Files, st.Blocks, st.Replicas)
		if st.Replicas == 0 {
			return fmt.Errorf("%s knows of no replica", m.Name)
		}
	}
	return nil
}

// kill kills the Active while files are being written.
func (s *script) kill(ctx context.Context) error {
	m, st, err := s.active(ctx, 0)
	if err != nil {
		return err
	}
	s.Printf("kill -9 %s, the Active of epoch %d, while %d writers write", m.Name, st.Epoch, writers)
	killed := m.Kill()
	next, now, err := s.active(ctx, st.Epoch)
	if err == nil {
		err = s.more(ctx)
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	slowest := s.slowest
	s.mu.Unlock()
	s.Printf("%s is Active in epoch %d and knows %d replicas already; no writer has noticed more than a pause (the slowest file took %d ms)",
		next.Name, now.Epoch, now.Replicas, slowest.Milliseconds())
	if err := m.Start(); err != nil {
		return err
	}
	if err := demo.Await(ctx, m.Name+" catches up", soon, func() bool {
		back, err := s.status(ctx, m)
		return err == nil && back.Applied >= now.Applied && back.Replicas >= now.Replicas
	}); err != nil {
		return err
	}
	s.Printf("%s was started again, %d ms after it was killed: fsimage, edits, and the reports of all DataNodes are there", m.Name, time.Since(killed).Milliseconds())
	return nil
}

// late stops the Active between decisions and deeds until another is Active, and lets it go on.
func (s *script) late(ctx context.Context) error {
	m, st, err := s.active(ctx, 0)
	if err != nil {
		return err
	}
	victim, err := s.precious(ctx)
	if err != nil {
		return err
	}
	block := victim.Blocks[0]
	answer := make(chan error, 1)
	var out namenode.Late
	decided := make(chan struct{})
	go func() { answer <- s.decide(ctx, m, victim.Path, block, decided, &out) }()
	select {
	case <-decided:
	case err := <-answer:
		if errors.Is(err, errNotActive) {
			return s.late(ctx)
		}
		return fmt.Errorf("POST /late: %w", err)
	}
	s.Printf("%s, the Active of epoch %d, has decided to remove %s, to answer a client, and to have %s delete a replica:", m.Name, st.Epoch, victim.Path, block.Nodes[0].Name)
	s.Printf("kill -STOP %s before it does any of it", m.Name)
	if err := m.Pause(); err != nil {
		return err
	}
	next, now, err := s.active(ctx, st.Epoch)
	if err == nil {
		err = s.more(ctx)
	}
	if err == nil {
		err = demo.Await(ctx, "the DataNodes obey "+next.Name, soon, func() bool {
			now, err = s.status(ctx, next)
			return err == nil && now.Obedient == len(s.data)
		})
	}
	if err != nil {
		return err
	}
	s.Printf("%s is Active in epoch %d, all DataNodes obey it, files are written; kill -CONT %s", next.Name, now.Epoch, m.Name)
	if err := m.Resume(); err != nil {
		return err
	}
	if err := <-answer; err != nil {
		return fmt.Errorf("POST /late: %w", err)
	}
	for _, fence := range []struct{ name, said string }{{"the log", out.Log}, {"for clients", out.Read}, {"the DataNode", out.Order}} {
		s.Printf("  fence %-12s: %s", fence.name, fence.said)
		if fence.said == "" {
			return fmt.Errorf("%s has let a late deed of %s through", fence.name, out.Token)
		}
	}
	if _, err := dfs.Fetch(ctx, block.Block, block.Nodes[0].Addr); err != nil {
		return fmt.Errorf("the replica of %s at %s is gone: %w", victim.Path, block.Nodes[0].Name, err)
	}
	s.Printf("the file and the replica are there")
	return nil
}

// precious returns a file with a block that is somewhere.
func (s *script) precious(ctx context.Context) (f dfs.File, err error) {
	err = demo.Await(ctx, "a file with a block is known", soon, func() bool {
		for f, err = range s.fs.Files(ctx, "/w1") {
			if err == nil && !f.Open && len(f.Blocks) > 0 && len(f.Blocks[0].Nodes) == replication {
				return true
			}
		}
		return false
	})
	return f, err
}

// errNotActive says that on a busy machine another has become Active unasked.
var errNotActive = errors.New("it is not Active any more")

// decide has a NameNode decide what it will do when it is late. decided is closed when it has.
func (s *script) decide(ctx context.Context, m *demo.Member, path string, b dfs.Located, decided chan<- struct{}, out *namenode.Late) error {
	body, err := json.Marshal(namenode.Deeds{Path: path, Addr: b.Nodes[0].Addr, Block: b.Block})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+m.HTTP+"/late", bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := s.web.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusConflict:
		return errNotActive
	default:
		text, _ := io.ReadAll(resp.Body)
		return fmt.Errorf("%s: %s", resp.Status, text)
	}
	close(decided)
	return json.NewDecoder(resp.Body).Decode(out)
}

// replicate kills a DataNode, and waits until everything it had is elsewhere.
func (s *script) replicate(ctx context.Context) error {
	m := s.data[0]
	have, _ := s.files()
	s.Printf("kill -9 %s, a DataNode, while files are written", m.Name)
	at := m.Kill()
	if err := s.all(ctx, m.Name+" is missed", func(st namenode.Status) bool { return len(st.DataNodes) == len(s.data)-1 }); err != nil {
		return err
	}
	noticed := time.Since(at)
	if err := s.settled(ctx); err != nil {
		return err
	}
	now, err := s.files()
	if err != nil {
		return err
	}
	s.Printf("missed after %d ms; the Active had everything copied that had lost a replica %d ms later; %d files were written meanwhile",
		noticed.Milliseconds(), (time.Since(at) - noticed).Milliseconds(), now-have)
	if err := m.Start(); err != nil {
		return err
	}
	if err := s.all(ctx, m.Name+" is back", func(st namenode.Status) bool { return len(st.DataNodes) == len(s.data) }); err != nil {
		return err
	}
	if err := s.settled(ctx); err != nil {
		return err
	}
	s.Printf("%s is back, and what is there more than %d times was deleted, but for what is being written", m.Name, replication)
	return nil
}

// settled waits until every block of the files that are there now is at exactly as many DataNodes as it should be.
func (s *script) settled(ctx context.Context) error {
	s.mu.Lock()
	there := maps.Clone(s.written)
	s.mu.Unlock()
	var wrong string
	err := demo.Await(ctx, "each block has its replicas", soon, func() bool {
		wrong = ""
		for f, err := range s.fs.Files(ctx, "/") {
			if err != nil {
				wrong = err.Error()
				break
			}
			if _, ok := there[f.Path]; !ok {
				continue
			}
			for _, b := range f.Blocks {
				if len(b.Nodes) != replication {
					wrong = fmt.Sprintf("%s: block %d is at %d DataNodes", f.Path, b.ID, len(b.Nodes))
				}
			}
		}
		return wrong == "" || demo.Pace(ctx, 50*time.Millisecond) != nil
	})
	if err != nil {
		return fmt.Errorf("%w: %s", err, wrong)
	}
	return nil
}

// abandoned is the file of a writer that dies in the middle of a block.
const abandoned = "/abandoned"

func (s *script) abandon(ctx context.Context) error {
	living, die := context.WithCancel(ctx)
	defer die()
	w, err := s.fs.Create(living, abandoned, replication)
	if err != nil {
		return err
	}
	data := bytes.Repeat([]byte("flushed "), (blockSize+blockSize/2)/8)
	_, err = w.Write(data)
	if err = errors.Join(err, w.Flush()); err != nil {
		return err
	}
	s.Printf("a writer flushes %d bytes, one and a half blocks, and dies with the file open", len(data))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.written[abandoned], s.bytes, s.died = sha256.Sum256(data), s.bytes+int64(len(data)), time.Now()
	return nil
}

// taken waits until the file of the dead writer is complete.
func (s *script) taken(ctx context.Context) error {
	if err := demo.Await(ctx, "the file is taken from its writer", soon, func() bool {
		f, err := s.fs.Stat(ctx, abandoned)
		return err == nil && !f.Open
	}); err != nil {
		return err
	}
	s.Printf("the Active has taken the file from the writer that died %.1f s ago, and settled the last block", time.Since(s.died).Seconds())
	return nil
}

// verify reads everything, and compares it with what was written.
func (s *script) verify(ctx context.Context) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return "", s.err
	}
	for _, path := range slices.Sorted(maps.Keys(s.written)) {
		sum := sha256.New()
		if err := s.fs.Get(ctx, path, sum); err != nil {
			return "", err
		}
		if [sha256.Size]byte(sum.Sum(nil)) != s.written[path] {
			return "", fmt.Errorf("%s is not what was written", path)
		}
	}
	h, err := s.fs.Fsck(ctx, "/")
	if err != nil {
		return "", err
	}
	s.Printf("fsck: %v", h)
	if h.Files != len(s.written) || h.Open > 0 || h.Bytes != s.bytes || len(h.Missing)+len(h.Bad) > 0 {
		return "", fmt.Errorf("%d files of %d bytes were acknowledged; fsck: %v\n%s", len(s.written), s.bytes, h, strings.Join(append(h.Missing, h.Bad...), "\n"))
	}
	_, st, err := s.active(ctx, 0)
	if err == nil {
		err = s.all(ctx, "the NameNodes agree", func(o namenode.Status) bool {
			return o.Files == st.Files && o.Blocks == st.Blocks && o.Replicas == st.Replicas
		})
	}
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d files with %s bytes were acknowledged, and every byte is there, through two failovers, a dead\n"+
		"      DataNode and a dead writer. Nothing late got through: not into the log, to a client, or to a DataNode.",
		len(s.written), demo.Thousands(s.bytes)), nil
}
