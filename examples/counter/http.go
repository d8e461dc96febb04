package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/ha/activehttp"
	"github.com/baton-ha/baton/ha/admin"
)

// A server is what one member serves. What changes something comes to the Active, wherever it was sent: activehttp
// sees to that.
//
//	POST /add?n=5        add 5, or 1 without n; &id=client/sequence makes it safe to repeat; with
//	                     &token=… only in the epoch of that token
//	GET  /value          this member's value; a standby's may lag; &client=… what one client added
//	GET  /status         this member's view of the cluster
//	POST /handover       let another member be Active
//	     /admin/         the status page of this member
type server struct {
	name  string
	node  *ha.Node
	count *counter
	page  *admin.Handler
}

func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /add", s.add)
	mux.HandleFunc("GET /value", s.value)
	mux.HandleFunc("GET /status", s.status)
	mux.HandleFunc("POST /handover", s.handover)
	all := http.NewServeMux()
	all.Handle("/admin/", http.StripPrefix("/admin", s.page)) // of this member, whoever is Active
	all.Handle("/", &activehttp.Handler{Node: s.node, Next: mux, Anywhere: anywhere})
	return all
}

// anywhere says which requests any member may serve: those that only read, and those that bring the token in whose name they are to
// be carried out, which is judged wherever they come to.
func anywhere(r *http.Request) bool {
	return r.Method == http.MethodGet || r.URL.Query().Has("token")
}

// patience bounds an append. A client that hears nothing definite repeats its request, with its id.
const patience = 5 * time.Second

func (s *server) add(w http.ResponseWriter, r *http.Request) {
	// The token says in whose name the record is written. It is taken once, before anything is decided,
	// so that everything that this request does is part of one epoch or is refused.
	token := activehttp.Token(r.Context())
	in, err := parseAdd(r.URL.Query())
	if text := r.URL.Query().Get("token"); text != "" && err == nil {
		token, err = fence.Parse(text)
	}
	if err != nil {
		reply(w, http.StatusBadRequest, failure{err.Error()})
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	index, err := s.node.Append(ctx, token, in.encode())
	if err != nil {
		refuse(w, err)
		return
	}
	reply(w, http.StatusOK, struct {
		Index  uint64 `json:"index"`
		Epoch  uint64 `json:"epoch"`
		Member string `json:"member"`
	}{index, token.Epoch, s.name})
}

// parseAdd checks what a client wants before it comes into the log: what Apply cannot read would stop
// every member.
func parseAdd(q url.Values) (in increment, err error) {
	if in.N, err = strconv.ParseInt(cmp.Or(q.Get("n"), "1"), 10, 64); err != nil {
		return in, fmt.Errorf("n: %w", err)
	}
	if id := q.Get("id"); id != "" {
		client, seq, _ := strings.Cut(id, "/")
		in.Client = client
		if in.Seq, err = strconv.ParseUint(seq, 10, 64); err != nil || in.Seq == 0 || len(client) == 0 || len(client) > 64 {
			return in, errors.New("id: want client/sequence, with a sequence of 1, 2, 3 …")
		}
	}
	return in, nil
}

func (s *server) value(w http.ResponseWriter, r *http.Request) {
	value, index := s.count.value()
	out := struct {
		Member string `json:"member"`
		Value  int64  `json:"value"`
		Index  uint64 `json:"index"` // of the last record counted in
		Client *tally `json:"client,omitempty"`
	}{s.name, value, index, nil}
	if name := r.URL.Query().Get("client"); name != "" {
		t := s.count.client(name)
		out.Client = &t
	}
	reply(w, http.StatusOK, out)
}

func (s *server) status(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, s.node.Status())
}

func (s *server) handover(w http.ResponseWriter, r *http.Request) {
	ctx := context.WithoutCancel(r.Context()) // which ends with the role
	if err := s.node.Become(ctx, ha.Standby); err != nil {
		refuse(w, err)
		return
	}
	reply(w, http.StatusOK, struct {
		Leader string `json:"leader"`
	}{s.node.Status().Leader})
}

type failure struct {
	Error string `json:"error"`
}

// refuse says why a request was not carried out. All of it is definite but the timeout.
func refuse(w http.ResponseWriter, err error) {
	code := http.StatusServiceUnavailable // ErrBusy, ErrClosed, no Active any more: try again
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
