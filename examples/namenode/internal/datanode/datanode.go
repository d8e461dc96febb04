package datanode

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/baton-ha/baton/examples/namenode/internal/dfs"
	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/fence/httpfence"
	"github.com/baton-ha/baton/ha/client"
)

// Config says what a DataNode is.
type Config struct {
	Name    string
	Dir     string       // its own; made if it is absent
	Cluster string       // whose tokens it obeys
	Listen  net.Listener // closed with it
	Addr    string       // where others reach it
	// Names reaches the NameNodes. It is closed by whoever has dialled it, later.
	Names *client.Client
	// Every is how often it tells that it lives. NameNodes miss it after three and a half.
	Every time.Duration
}

// A DataNode keeps replicas.
type DataNode struct {
	cfg   Config
	store *store
	guard *fence.Guard

	mu     sync.Mutex // held while a Delete is carried out; guards what follows
	token  fence.Token
	number uint64 // of the last Delete of token
}

// Run runs a DataNode until ctx ends.
func Run(ctx context.Context, cfg Config) error {
	store, err := openStore(filepath.Join(cfg.Dir, "blocks"))
	if err != nil {
		return err
	}
	tokens, err := fence.OpenFileStore(filepath.Join(cfg.Dir, "token"))
	if err != nil {
		return err
	}
	defer tokens.Close()
	d := &DataNode{cfg: cfg, store: store, guard: fence.NewGuard(cfg.Cluster, tokens)}
	server := &http.Server{Handler: d.handler(), ReadHeaderTimeout: 10 * time.Second}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := server.Serve(cfg.Listen); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		return server.Close()
	})
	g.Go(func() error {
		err := cfg.Names.Announce(ctx, client.Worker{Name: cfg.Name, Addr: cfg.Addr, Every: cfg.Every})
		if ctx.Err() != nil {
			return nil
		}
		return err
	})
	g.Go(func() error { return d.reportToAll(ctx) })
	return g.Wait()
}

// handler serves the data to everybody, and the commands to the newest token: the guard has it on the disk before a command of it is
// carried out, refuses those of older ones, also after a restart, and lets one that is under way end first.
func (d *DataNode) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /blocks/{id}", d.packet)
	mux.HandleFunc("GET /blocks/{id}", d.read)
	mux.Handle("/", &httpfence.Handler{Guard: d.guard, Next: d.commands()})
	return mux
}

// commands are what only the Active may ask for.
func (d *DataNode) commands() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /delete", command(d, d.delete))
	mux.HandleFunc("POST /copy", command(d, func(ctx context.Context, q dfs.Copy) (struct{}, error) {
		return struct{}{}, d.store.copy(ctx, q)
	}))
	mux.HandleFunc("POST /prepare", command(d, func(_ context.Context, q dfs.Prepare) (dfs.Prepared, error) { return d.store.prepare(q) }))
	mux.HandleFunc("POST /settle", command(d, func(_ context.Context, q dfs.Settle) (dfs.Block, error) { return d.store.settle(q) }))
	return mux
}

// command serves one command.
func command[Q, A any](d *DataNode, do func(context.Context, Q) (A, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var q Q
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4<<20)).Decode(&q); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		d.store.obey(httpfence.TokenOf(r.Context()))
		a, err := do(r.Context(), q)
		if err != nil {
			slog.Warn("command failed", "command", r.URL.Path, "err", err)
			http.Error(w, err.Error(), http.StatusConflict)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(a) // an error means that the Active is gone
	}
}

// obey notes for the reports that commands of a token are carried out, and that those of older ones have ended.
func (s *store) obey(t fence.Token) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.Supersedes(s.obeys) || t.Valid() && !s.obeys.Valid() {
		s.obeys = t
		s.wakeLocked()
	}
}

// delete drops replicas. Commands that were overtaken by a later one are not carried out.
func (d *DataNode) delete(ctx context.Context, q dfs.Delete) (dfs.Deleted, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if t := httpfence.TokenOf(ctx); t != d.token {
		d.token, d.number = t, 0
	}
	if q.Number <= d.number {
		return dfs.Deleted{}, fmt.Errorf("command %d comes after command %d", q.Number, d.number)
	}
	d.number = q.Number
	for _, b := range q.Blocks {
		if err := d.store.remove(b); err != nil {
			return dfs.Deleted{}, err
		}
		slog.Info("replica deleted", "block", b.ID, "generation", b.Gen)
	}
	p, _ := d.store.report(0, false)
	return dfs.Deleted{Boot: d.store.boot, Change: p.To}, nil
}

// packet writes a packet, and passes it on meanwhile.
func (d *DataNode) packet(w http.ResponseWriter, r *http.Request) {
	p, next, err := dfs.ReadPacket(w, r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var behind error
	var passing sync.WaitGroup
	if len(next) > 0 {
		passing.Go(func() { behind = dfs.Send(r.Context(), p, next) })
	}
	err = d.store.write(p)
	passing.Wait()
	var failed *dfs.PipelineError
	switch {
	case err != nil:
		http.Error(w, err.Error(), http.StatusConflict)
	case errors.As(behind, &failed):
		w.Header().Set(dfs.FailedHeader, failed.Addr)
		http.Error(w, failed.Err.Error(), http.StatusBadGateway)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

func (d *DataNode) read(w http.ResponseWriter, r *http.Request) {
	id, err1 := strconv.ParseUint(r.PathValue("id"), 10, 64)
	gen, err2 := strconv.ParseUint(r.URL.Query().Get("gen"), 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	switch err := d.store.read(id, gen, w); {
	case errors.Is(err, dfs.ErrNoReplica):
		http.Error(w, err.Error(), http.StatusNotFound)
	case errors.Is(err, dfs.ErrDamaged):
		slog.Error("a replica is damaged, and was put aside", "block", id, "generation", gen)
		http.Error(w, err.Error(), http.StatusGone)
	case err != nil:
		slog.Warn("read", "block", id, "err", err) // perhaps it is the reader that has gone
	}
}
