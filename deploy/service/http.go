package main

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/ha/activehttp"
	"github.com/baton-ha/baton/ha/admin"
	"github.com/baton-ha/baton/ha/metrics"
)

// maxValue bounds a value, in bytes.
const maxValue = 1 << 20

// A service is what a member serves to clients.
//
//	PUT    /kv/KEY   set the key to the body; on any member, which carries it to the Active
//	DELETE /kv/KEY   delete it
//	GET    /kv/KEY   read it, from any member: with all that was acknowledged before; ?stale without asking anybody
//	GET    /admin/   the status page, and what probes ask
//	GET    /metrics  for Prometheus
type service struct {
	node *ha.Node
	kv   *store
}

func handler(node *ha.Node, kv *store, page *admin.Handler) http.Handler {
	s := service{node, kv}
	kvs := http.NewServeMux()
	kvs.HandleFunc("PUT /kv/{key...}", s.put)
	kvs.HandleFunc("DELETE /kv/{key...}", s.delete)
	kvs.HandleFunc("GET /kv/{key...}", s.get)
	registry := prometheus.NewRegistry()
	registry.MustRegister(metrics.New(node), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	all := http.NewServeMux()
	all.Handle("/kv/", &activehttp.Handler{
		Node: node, Next: kvs, Carry: true, Wait: 2 * time.Second,
		Anywhere: func(r *http.Request) bool { return r.Method == http.MethodGet },
	})
	all.Handle("/admin/", http.StripPrefix("/admin", page))
	all.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	return all
}

func (s service) put(w http.ResponseWriter, r *http.Request) {
	value, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxValue))
	if err != nil {
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		}
		return // or the client is gone
	}
	s.append(w, r, change{Key: r.PathValue("key"), Value: value})
}

func (s service) delete(w http.ResponseWriter, r *http.Request) {
	s.append(w, r, change{Key: r.PathValue("key"), Delete: true})
}

func (s service) append(w http.ResponseWriter, r *http.Request, c change) {
	record, err := json.Marshal(c)
	if err == nil {
		_, err = s.node.Append(r.Context(), activehttp.Token(r.Context()), record)
	}
	if err != nil {
		refuse(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s service) get(w http.ResponseWriter, r *http.Request) {
	if !r.URL.Query().Has("stale") {
		if err := s.node.ReadBarrier(r.Context()); err != nil {
			refuse(w, err)
			return
		}
	}
	value, ok := s.kv.get(r.PathValue("key"))
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = w.Write(value) // who does not read it is gone
}

// refuse says why something was not done. Only of what was unknown to the member it is not known whether it was.
func refuse(w http.ResponseWriter, err error) {
	code := http.StatusServiceUnavailable
	if errors.Is(err, ha.ErrUnknown) {
		code = http.StatusGatewayTimeout
	}
	http.Error(w, err.Error(), code)
}
