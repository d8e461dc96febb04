// Service is the program that the files in deploy/ run: a key-value store that is highly available by embedding baton, with the configuration,
// the probes, the metrics and the end of life that a supervisor expects. It is an example to begin with: put your own state machine in the place of
// store.go, your own service in the place of http.go.
//
// Everything is configured by the environment, the same on all members but for the name and the directory:
//
//	BATON_MEMBERS    all members: name=host:port,name=host:port,…
//	BATON_NAME       which of them this is; if it is not set the host's name, which is the pod's in a StatefulSet
//	BATON_CLUSTER    the cluster's name; if it is not set kv
//	BATON_DIR        the member's directory; if it is not set that which systemd gives (STATE_DIRECTORY), or /data
//	BATON_HTTP       where HTTP is served, host:port; if it is not set :8080
//	BATON_ADVERTISE  under which URL the other members reach that; if it is not set this member's host in BATON_MEMBERS, with the port of BATON_HTTP
//	BATON_TLS        a directory with tls.crt, tls.key and ca.crt; if it is not set anyone who reaches the port can be a member
//
// The first SIGTERM hands the role over, ends what is being served, and then the process.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/ha/admin"
	"github.com/baton-ha/baton/ha/watchdog"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Getenv); err != nil {
		fmt.Fprintln(os.Stderr, "service:", err)
		os.Exit(1)
	}
}

// leaving bounds the hand-over at the end, and then the requests that are under way. Together they are less than what a supervisor waits.
const leaving = 10 * time.Second

// run is the member until ctx ends in good order, or the member fails.
func run(ctx context.Context, env func(string) string) error {
	c, err := configure(env)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", c.http)
	if err != nil {
		return err
	}
	defer listener.Close()
	kv := newStore()
	c.node.StateMachine = kv
	switch dog, err := watchdog.NewSystemd(); {
	case err == nil:
		c.node.Watchdog = dog
	case !errors.Is(err, watchdog.ErrNone):
		return err
	}
	node, err := ha.Open(c.node)
	if err != nil {
		return err
	}
	page := admin.New(node, admin.Config{})
	srv := &http.Server{Handler: handler(node, kv, page), ReadHeaderTimeout: 10 * time.Second}
	srv.RegisterOnShutdown(page.Close)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() { cancel(srv.Serve(listener)) }()
	if err := watchdog.Notify("READY=1"); err != nil && !errors.Is(err, watchdog.ErrNone) {
		slog.Warn("the service manager was not told that this service is ready", "err", err)
	}
	for st := range node.Watch(ctx) {
		if st.State == ha.Failed {
			return errors.Join(srv.Close(), node.Close()) // whoever supervises the process starts it again
		}
	}
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return errors.Join(err, node.Close()) // HTTP cannot be served
	}
	_ = watchdog.Notify("STOPPING=1") // it notices in any case
	bounded, done := context.WithTimeout(context.Background(), leaving)
	defer done()
	if err := node.Become(bounded, ha.Standby); err != nil { // while clients still reach this member, which carries them on to the next
		slog.Info("leaving without a successor", "err", err)
	}
	if err := srv.Shutdown(bounded); err != nil {
		slog.Info("leaving with requests under way", "err", err)
	}
	return node.Close()
}
