package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/ha/activehttp"
	"github.com/baton-ha/baton/ha/admin"
)

// A server is what one member serves. What changes something comes to the Active, wherever it was sent: activehttp
// sees to that.
//
//	POST /push           the body is a job, as text; ?key=… makes it safe to repeat
//	POST /take           ?worker=…, &lease=30s how long it may work, &wait=10s for a job to come:
//	                     200 with the job, or 204 if there is none
//	POST /ack            ?id=…&lease=…: the job is done; 410 if its lease had ended
//	POST /nack           ?id=…&lease=…: it is not, let another worker try
//	POST /retry          ?id=…: make a dead job ready again
//	GET  /stats          this member's counts and dead jobs; a standby's may lag
//	GET  /status         this member's view of the cluster
//	     /admin/         the status page of this member
type server struct {
	name     string
	attempts int
	queue    *queue
	node     *ha.Node
	page     *admin.Handler
}

func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /push", s.push)
	mux.HandleFunc("POST /take", s.take)
	mux.HandleFunc("POST /ack", s.ack)
	mux.HandleFunc("POST /nack", s.nack)
	mux.HandleFunc("POST /retry", s.retry)
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, s.queue.stats()) })
	mux.HandleFunc("GET /status", s.status)
	all := http.NewServeMux()
	all.Handle("/admin/", http.StripPrefix("/admin", s.page)) // of this member, whoever is Active
	all.Handle("/", &activehttp.Handler{Node: s.node, Next: mux, Anywhere: func(r *http.Request) bool { return r.Method == http.MethodGet }})
	return all
}

const (
	patience = 5 * time.Second // bounds an append
	maxBody  = 1 << 20         // bytes of one job
	maxJobs  = 100_000         // in the queue, dead ones included
	maxKey   = 100             // bytes of a key or of a worker's name
	maxWait  = 30 * time.Second
)

// takeBack is what the Active does beside serving requests: it takes back the jobs of workers that do
// not answer. Nothing is appended while nothing is due.
func (s *server) takeBack(ctx context.Context, token fence.Token) error {
	node := ha.FromContext(ctx) // Open may not have returned yet
	defer s.queue.wake()        // whoever waits for a job is sent on to the next Active
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			if !s.queue.due(now.UnixMilli()) {
				continue
			}
			if _, err := node.Append(ctx, token, command{Op: "expire", Now: now.UnixMilli()}.encode()); err != nil && ctx.Err() == nil {
				slog.Warn("take back jobs", "err", err) // the next tick tries again, or ctx has ended
			}
		}
	}
}

func (s *server) push(w http.ResponseWriter, r *http.Request) {
	token := activehttp.Token(r.Context()) // once, before anything is decided
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	key := r.URL.Query().Get("key")
	switch {
	case err != nil:
		reply(w, http.StatusRequestEntityTooLarge, failure{err.Error()})
		return
	case !utf8.Valid(body) || len(key) > maxKey:
		reply(w, http.StatusBadRequest, failure{fmt.Sprintf("a job is text, a key is at most %d bytes", maxKey)})
		return
	case s.queue.size() >= maxJobs:
		refuse(w, cmp.Or(s.node.Check(token), errFull))
		return
	}
	index, err := s.append(r, token, command{Op: "push", Key: key, Body: string(body)})
	if err != nil {
		refuse(w, err)
		return
	}
	reply(w, http.StatusOK, struct {
		ID     uint64 `json:"id"`
		Epoch  uint64 `json:"epoch"`
		Member string `json:"member"`
	}{s.queue.pushed(index, key), token.Epoch, s.name})
}

var errFull = errors.New("the queue is full")

func (s *server) take(w http.ResponseWriter, r *http.Request) {
	token := activehttp.Token(r.Context())
	lease, err1 := time.ParseDuration(cmp.Or(r.URL.Query().Get("lease"), "30s"))
	wait, err2 := time.ParseDuration(cmp.Or(r.URL.Query().Get("wait"), "0s"))
	worker := r.URL.Query().Get("worker")
	if err := errors.Join(err1, err2); err != nil || lease < time.Millisecond || lease > 24*time.Hour || len(worker) > maxKey {
		reply(w, http.StatusBadRequest, failure{"want worker=…&lease=30s&wait=10s"})
		return
	}
	timer := time.NewTimer(min(wait, maxWait))
	defer timer.Stop()
	for {
		// Look first: a queue without jobs should not fill the log with attempts to take one.
		ready, changed := s.queue.poll(time.Now().UnixMilli())
		if err := s.node.Check(token); err != nil {
			refuse(w, err)
			return
		}
		if ready {
			index, err := s.append(r, token, command{
				Op: "take", Now: time.Now().UnixMilli(), For: lease.Milliseconds(), Max: s.attempts, Worker: worker,
			})
			if err != nil {
				refuse(w, err)
				return
			}
			if j, ok := s.queue.taken(index); ok {
				reply(w, http.StatusOK, j)
				return
			}
			continue // another worker was faster
		}
		select {
		case <-changed:
		case <-timer.C:
			w.WriteHeader(http.StatusNoContent)
			return
		case <-r.Context().Done(): // the role has ended, or nobody waits any more
			refuse(w, context.Cause(r.Context()))
			return
		}
	}
}

func (s *server) ack(w http.ResponseWriter, r *http.Request) {
	s.settle(w, r, "ack", func(c command) (int, any) {
		if s.queue.done(c.Job, c.Lease) {
			return http.StatusOK, struct{}{}
		}
		return http.StatusGone, failure{"the lease has ended; the job is another worker's, or done"}
	})
}

func (s *server) nack(w http.ResponseWriter, r *http.Request) {
	s.settle(w, r, "nack", func(command) (int, any) { return http.StatusOK, struct{}{} })
}

func (s *server) retry(w http.ResponseWriter, r *http.Request) {
	s.settle(w, r, "retry", func(command) (int, any) { return http.StatusOK, struct{}{} })
}

// settle appends a command about one job and answers with its outcome.
func (s *server) settle(w http.ResponseWriter, r *http.Request, op string, outcome func(command) (int, any)) {
	token := activehttp.Token(r.Context())
	id, err1 := strconv.ParseUint(r.URL.Query().Get("id"), 10, 64)
	lease, err2 := strconv.ParseUint(cmp.Or(r.URL.Query().Get("lease"), "0"), 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		reply(w, http.StatusBadRequest, failure{err.Error()})
		return
	}
	c := command{Op: op, Job: id, Lease: lease}
	if _, err := s.append(r, token, c); err != nil {
		refuse(w, err)
		return
	}
	code, body := outcome(c)
	reply(w, code, body)
}

// append appends a command. When it returns nil, the command is applied here: its outcome can be read.
func (s *server) append(r *http.Request, token fence.Token, c command) (uint64, error) {
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	return s.node.Append(ctx, token, c.encode())
}

func (s *server) status(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, s.node.Status())
}

type failure struct {
	Error string `json:"error"`
}

// refuse says why a request was not carried out. All of it is definite but the timeout.
func refuse(w http.ResponseWriter, err error) {
	code := http.StatusServiceUnavailable // ErrBusy, ErrClosed, errFull, no Active any more: try again
	switch {
	case errors.Is(err, ha.ErrFenced):
		code = http.StatusConflict
	case errors.Is(err, ha.ErrUnknown):
		code = http.StatusGatewayTimeout
	case errors.Is(err, ha.ErrTooLarge):
		code = http.StatusRequestEntityTooLarge
	}
	reply(w, code, failure{err.Error()})
}

func reply(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	json.NewEncoder(w).Encode(body) // an error means that the client is gone
}
