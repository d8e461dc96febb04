// Counter is a replicated counter: a program that becomes highly available by embedding baton. Three
// copies run, one of them is Active and counts, and the others hold the same value and take over.
//
// See it at work, with nothing else installed:
//
//	go run ./examples/counter          # -web: and watch it on a status page
//
// This starts three members as processes on this machine, counts through the Active, kills it, hands
// over, pauses it, and checks in the end that every acknowledged increment was counted, once, on every
// member. It takes about 15 seconds and leaves nothing behind.
//
// Run it for real, the same command on three machines but for the name:
//
//	go build ./examples/counter
//	M=a=10.0.0.1:7000@10.0.0.1:8000,b=10.0.0.2:7000@10.0.0.2:8000,c=10.0.0.3:7000@10.0.0.3:8000
//	./counter -name a -dir /var/lib/counter -members $M    # on 10.0.0.1
//	./counter -name b -dir /var/lib/counter -members $M    # on 10.0.0.2
//	./counter -name c -dir /var/lib/counter -members $M    # on 10.0.0.3
//
// and use it through any of them; -L follows a standby's redirect to the Active:
//
//	curl -L -X POST 'http://10.0.0.2:8000/add?n=5&id=me/1'
//	curl 'http://10.0.0.3:8000/value'
//
// The files: main.go has the flags and the member, http.go what it serves, machine.go the state
// machine; demo.go is the demonstration.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/ha/admin"
)

func main() {
	var cfg ha.Config
	flag.StringVar(&cfg.Name, "name", "", "this member's `name`, one of -members")
	flag.StringVar(&cfg.Dir, "dir", "", "this member's `directory`")
	flag.StringVar(&cfg.Cluster, "cluster", "counter", "the cluster's `name`")
	flag.DurationVar(&cfg.Heartbeat, "heartbeat", 0, "how often the leader shows that it is alive (0: 50ms)")
	flag.DurationVar(&cfg.ElectionTimeout, "election", 0, "the silence after which it is replaced (0: ten heartbeats)")
	members := flag.String("members", "", "all members, the same on each: `name=host:port@host:port,…`, the second address for HTTP")
	listen := flag.String("http", "", "`host:port` to serve HTTP on, if not the one in -members")
	web := flag.Bool("web", false, "alone: have the demonstration show its members' status pages, until Ctrl-C")
	supervised := flag.Bool("supervised", false, "stop at the end of standard input")
	flag.Parse()
	if flag.NArg() == 0 && (flag.NFlag() == 0 || *web && flag.NFlag() == 1) {
		os.Exit(runDemo(*web))
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if *supervised {
		go func() { io.Copy(io.Discard, os.Stdin); stop() }()
	}
	err := parseMembers(*members, &cfg)
	if err == nil {
		err = runMember(ctx, cfg, cmp.Or(*listen, strings.TrimPrefix(cfg.Advertise, "http://")))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "counter:", err)
		os.Exit(1)
	}
}

// parseMembers reads -members into the configuration.
func parseMembers(list string, cfg *ha.Config) error {
	for m := range strings.SplitSeq(list, ",") {
		name, addrs, ok1 := strings.Cut(m, "=")
		addr, httpAddr, ok2 := strings.Cut(addrs, "@")
		if !ok1 || !ok2 {
			return fmt.Errorf("-members: %q is not name=host:port@host:port", m)
		}
		cfg.Members = append(cfg.Members, ha.Member{Name: name, Addr: addr})
		if name == cfg.Name {
			cfg.Advertise = "http://" + httpAddr
		}
	}
	return nil // Open checks the rest
}

// runMember runs this process's member until ctx ends or the member fails.
func runMember(ctx context.Context, cfg ha.Config, listen string) error {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	defer l.Close()
	count := newCounter()
	cfg.StateMachine = count
	node, err := ha.Open(cfg)
	if err != nil {
		return err
	}
	page := admin.New(node, admin.Config{Authorize: admin.FromLoopback, PageOf: func(m ha.MemberStatus) string { return m.Advertise + "/admin/" }})
	defer page.Close()
	s := &server{name: cfg.Name, node: node, count: count, page: page}
	srv := &http.Server{Handler: s.handler(), ReadHeaderTimeout: 10 * time.Second}
	srv.RegisterOnShutdown(page.Close)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer cancel()
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			slog.Error("serve HTTP", "err", err)
		}
	}()

	for st := range node.Watch(ctx) {
		if st.State == ha.Failed {
			break // end the process: whoever supervises it starts it again
		}
	}

	// Hand over first, so that clients are sent on to the next Active while they still reach us.
	bounded, done := context.WithTimeout(context.Background(), 5*time.Second)
	defer done()
	if err := node.Become(bounded, ha.Standby); err != nil {
		slog.Info("leave without handing over", "err", err)
	}
	if err := srv.Shutdown(bounded); err != nil {
		slog.Info("leave with requests open", "err", err)
	}
	return node.Close()
}
