// Namenode is a small file system in the shape of HDFS: NameNodes, of which one is Active, DataNodes that keep the blocks, and clients
// that write and read through both. It shows HDFS's high availability with nothing but baton: a Standby that is hot, exactly-once
// requests through failovers, and the three fences, so that an Active that was stopped and goes on can do no harm.
//
// See it at work, with nothing else installed:
//
//	go run ./examples/namenode          # -web: and watch it on a status page
//
// This starts three NameNodes and four DataNodes as processes on this machine, writes files, kills and stops what there is, and checks
// every byte in the end. It takes about 20 seconds and leaves nothing behind.
//
// README.md beside this file says how to run it for real, how it works, and what it does not do. main.go has the commands, demo.go the
// demonstration; internal/namenode is a NameNode, internal/datanode a DataNode, internal/dfs the client and what all have in common.
package main

import (
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
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/baton-ha/baton/examples/namenode/internal/datanode"
	"github.com/baton-ha/baton/examples/namenode/internal/dfs"
	"github.com/baton-ha/baton/examples/namenode/internal/namenode"
	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/ha/admin"
	"github.com/baton-ha/baton/ha/client"
)

const usage = `Usage: namenode COMMAND [flags] [arguments]; without any, a demonstration.

  namenode -name N -dir D -members a=host:port,…    a NameNode
  datanode -name N -dir D -listen host:port         a DataNode
  put FILE PATH      write a file; - is standard input
  get PATH FILE      read a file; - is standard output
  ls [PATH]          list files
  mv PATH PATH       rename a file, or all below a path
  rm PATH            remove a file, or all below a path
  recover PATH       take a file from a writer that is dead, before its lease is over
  fsck [PATH]        read every block from every DataNode that has it, and say what is missing

All but the first find the NameNodes by -namenodes host:port,…
`

// commands are those of a user, and how many arguments each takes, at least and at most.
var commands = map[string][]int{"put": {2, 2}, "get": {2, 2}, "ls": {0, 1}, "mv": {2, 2}, "rm": {1, 1}, "recover": {1, 1}, "fsck": {0, 1}}

func main() {
	pages := len(os.Args) == 2 && os.Args[1] == "-web"
	switch {
	case len(os.Args) == 1 || pages:
		os.Exit(runDemo(pages))
	case slices.Contains([]string{"-h", "-help", "--help", "help"}, os.Args[1]):
		fmt.Print(usage)
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, stop, os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "namenode:", err)
		os.Exit(1)
	}
}

// run runs one command. stop ends its ctx.
func run(ctx context.Context, stop func(), name string, args []string) error {
	flags := flag.NewFlagSet(name, flag.ExitOnError)
	flags.Usage = func() { fmt.Fprint(os.Stderr, usage, "\nFlags:\n"); flags.PrintDefaults() }
	cluster := flags.String("cluster", "dfs", "the cluster's `name`")
	supervised := func() {
		if flags.Lookup("supervised").Value.String() == "true" {
			go func() { io.Copy(io.Discard, os.Stdin); stop() }()
		}
	}
	if name == "namenode" {
		var cfg ha.Config
		var s namenode.Server
		flags.StringVar(&cfg.Name, "name", "", "this NameNode's `name`, one of -members")
		flags.StringVar(&cfg.Dir, "dir", "", "this NameNode's `directory`")
		flags.Int64Var(&cfg.CheckpointBytes, "checkpoint", 0, "after how many `bytes` of log an fsimage is written (0: 64 MiB)")
		flags.DurationVar(&s.Lease, "lease", 0, "how long a writer may be silent before its file is taken from it (0: 1m)")
		flags.BoolVar(&s.Late, "late", false, "serve POST /late, for the demonstration")
		members := flags.String("members", "", "all NameNodes, the same on each: `name=host:port,…`")
		flags.Bool("supervised", false, "stop at the end of standard input")
		flags.Parse(args)
		supervised()
		cfg.Cluster = *cluster
		if err := parseMembers(*members, &cfg); err != nil {
			return err
		}
		return runNameNode(ctx, cfg, &s)
	}

	addrs := flags.String("namenodes", "127.0.0.1:7000", "where NameNodes are: `host:port,…`")
	dial := func() (*client.Client, error) {
		return client.Dial(ctx, client.Config{Cluster: *cluster, Addrs: strings.Split(*addrs, ",")})
	}
	if name == "datanode" {
		cfg := datanode.Config{}
		flags.StringVar(&cfg.Name, "name", "", "this DataNode's `name`; it must keep it")
		flags.StringVar(&cfg.Dir, "dir", "", "this DataNode's `directory`")
		flags.StringVar(&cfg.Addr, "listen", "", "`host:port` where it listens and others reach it")
		flags.DurationVar(&cfg.Every, "heartbeat", time.Second, "how often it says that it lives; after three and a half it is missed")
		flags.Bool("supervised", false, "stop at the end of standard input")
		flags.Parse(args)
		supervised()
		cfg.Cluster = *cluster
		return runDataNode(ctx, cfg, dial)
	}
	replication := flags.Int("replication", 3, "of put: at how many DataNodes each block shall be")
	timeout := flags.Duration("timeout", 0, "how long to try at most (0: for ever)")
	flags.Parse(args)
	if *timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, *timeout)
		defer cancel()
	}
	if n, takes := flags.NArg(), commands[name]; takes == nil || n < takes[0] || n > takes[1] {
		fmt.Fprint(os.Stderr, usage)
		return fmt.Errorf("%s: no such command", strings.Join(append([]string{name}, flags.Args()...), " "))
	}
	names, err := dial()
	if err != nil {
		return err
	}
	defer names.Close()
	return runCommand(ctx, dfs.NewClient(names), name, flags.Args(), *replication)
}

// parseMembers reads -members into the configuration.
func parseMembers(list string, cfg *ha.Config) error {
	for m := range strings.SplitSeq(list, ",") {
		name, addr, ok := strings.Cut(m, "=")
		if !ok {
			return fmt.Errorf("-members: %q is not name=host:port", m)
		}
		cfg.Members = append(cfg.Members, ha.Member{Name: name, Addr: addr})
		if name == cfg.Name {
			cfg.Advertise = "http://" + addr // the same port
		}
	}
	return nil // Open checks the rest
}

// runNameNode runs a NameNode until ctx ends or it fails.
func runNameNode(ctx context.Context, cfg ha.Config, s *namenode.Server) error {
	s.Configure(&cfg)
	node, err := ha.Open(cfg)
	if err != nil {
		return err
	}
	page := admin.New(node, admin.Config{PageOf: func(m ha.MemberStatus) string { return m.Advertise + "/admin/" }})
	defer page.Close()
	mux := http.NewServeMux()
	mux.Handle("/", s.Handler(node))
	mux.Handle("/admin/", http.StripPrefix("/admin", page))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		if err := server.Serve(node.Others()); !errors.Is(err, net.ErrClosed) && !errors.Is(err, http.ErrServerClosed) {
			slog.Error("serve HTTP", "err", err)
		}
	}()
	for st := range node.Watch(ctx) {
		slog.Info("status", "state", st.State, "epoch", st.Epoch, "active", st.Active)
		if st.State == ha.Failed {
			break // end the process: whoever supervises it starts it again
		}
	}
	return errors.Join(node.Close(), server.Close())
}

// runDataNode runs a DataNode until ctx ends.
func runDataNode(ctx context.Context, cfg datanode.Config, dial func() (*client.Client, error)) error {
	l, err := net.Listen("tcp", cfg.Addr)
	if err != nil {
		return err
	}
	cfg.Listen = l
	if cfg.Names, err = dial(); err != nil {
		return errors.Join(err, l.Close())
	}
	defer cfg.Names.Close()
	return datanode.Run(ctx, cfg)
}

// runCommand runs a command of a user.
func runCommand(ctx context.Context, c *dfs.Client, name string, args []string, replication int) error {
	arg := func(i int) string {
		if i < len(args) {
			return args[i]
		}
		return ""
	}
	switch name {
	case "put":
		in := os.Stdin
		if arg(0) != "-" {
			var err error
			if in, err = os.Open(arg(0)); err != nil {
				return err
			}
			defer in.Close()
		}
		return c.Put(ctx, arg(1), replication, in)
	case "get":
		if arg(1) == "-" {
			return c.Get(ctx, arg(0), os.Stdout)
		}
		out, err := os.Create(arg(1))
		if err != nil {
			return err
		}
		return errors.Join(c.Get(ctx, arg(0), out), out.Close())
	case "ls":
		for f, err := range c.Files(ctx, root(arg(0))) {
			if err != nil {
				return err
			}
			open := ""
			if f.Open {
				open = "  (open)"
			}
			fmt.Printf("%2d %12d  %s%s\n", f.Replication, f.Len(), f.Path, open)
		}
		return nil
	case "mv":
		return c.Rename(ctx, arg(0), arg(1))
	case "rm":
		return c.Remove(ctx, arg(0))
	case "recover":
		return c.Recover(ctx, arg(0))
	default: // fsck
		report, err := c.Fsck(ctx, root(arg(0)))
		if err != nil {
			return err
		}
		fmt.Println(report)
		return report.Err()
	}
}

func root(path string) string {
	if path == "" {
		return "/"
	}
	return path
}
