package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/baton-ha/baton/benchmarks/internal/harness"
	"github.com/baton-ha/baton/benchmarks/internal/systems/baton"
	"github.com/baton-ha/baton/benchmarks/internal/systems/dragonboat"
	"github.com/baton-ha/baton/benchmarks/internal/systems/etcd"
	"github.com/baton-ha/baton/benchmarks/internal/systems/floor"
	"github.com/baton-ha/baton/benchmarks/internal/systems/hashiraft"
)

// A system is what the flag -systems can name.
type system struct {
	name  string
	about string
	start func(harness.Options) (harness.System, error)
	shim  bool // can be measured with a delay
	floor bool // no cluster: not compared with, and one member only
	fits  func(point) bool
}

var all = []system{
	{name: "baton", about: "three ha.Nodes, default settings", shim: true,
		start: func(o harness.Options) (harness.System, error) { return baton.Start(o, nil) }},
	{name: "hraft-wal", about: "hashicorp/raft + raft-wal, default", shim: true, start: hraft(hashiraft.Settings{})},
	{name: "hraft-wal-tuned", about: "with BatchApplyCh and MaxAppendEntries 1024", shim: true, start: hraft(hashiraft.Settings{Tuned: true})},
	{name: "hraft-boltdb", about: "hashicorp/raft + raft-boltdb/v2, default", shim: true, start: hraft(hashiraft.Settings{Bolt: true})},
	{name: "hraft-boltdb-tuned", about: "with BatchApplyCh and MaxAppendEntries 1024", shim: true, start: hraft(hashiraft.Settings{Bolt: true, Tuned: true})},
	{name: "dragonboat", about: "dragonboat v4, default LogDB (pebble)",
		start: func(o harness.Options) (harness.System, error) { return dragonboat.Start(o, false) }},
	{name: "dragonboat-tan", about: "dragonboat v4, LogDB tan",
		start: func(o harness.Options) (harness.System, error) { return dragonboat.Start(o, true) }},
	{name: "etcd", about: "etcd server embedded, v3client",
		start: func(o harness.Options) (harness.System, error) { return etcd.Start(o) }},
	{name: "floor-fdatasync-1", about: "write and fdatasync of one file, group commit", floor: true, start: files(1)},
	{name: "floor-fdatasync-3", about: "the same of three files at once, answered when all are synced", floor: true, start: files(3)},
	{name: "floor-pingpong", about: "payload over loopback TCP and back, one writer", floor: true, fits: func(p point) bool { return p.Writers == 1 },
		start: func(harness.Options) (harness.System, error) { return floor.NewPingPong() }},
	{name: "floor-etcd-wal", about: "group commit to one WAL of etcd, nothing else", floor: true,
		start: func(o harness.Options) (harness.System, error) { return floor.NewWAL(o) }},
}

func hraft(s hashiraft.Settings) func(harness.Options) (harness.System, error) {
	return func(o harness.Options) (harness.System, error) { return hashiraft.Start(o, s) }
}

func files(n int) func(harness.Options) (harness.System, error) {
	return func(o harness.Options) (harness.System, error) { return floor.NewFiles(o, n) }
}

func find(name string) (system, bool) {
	i := slices.IndexFunc(all, func(s system) bool { return s.name == name })
	if i < 0 {
		return system{}, false
	}
	return all[i], true
}

// measures reports whether the system can be measured at a point.
func (s system) measures(p point) bool {
	if p.Shim && !s.shim || s.floor && (p.Members != 3 || p.Preload > 0) {
		return false
	}
	return s.fits == nil || s.fits(p)
}

// choose returns the systems of a list of names; a name may end in "*".
func choose(list string) ([]system, error) {
	if list == "all" {
		return all, nil
	}
	var out []system
	for _, name := range strings.Split(list, ",") {
		n := len(out)
		for _, s := range all {
			if prefix, ok := strings.CutSuffix(name, "*"); s.name == name || ok && strings.HasPrefix(s.name, prefix) {
				out = append(out, s)
			}
		}
		if n == len(out) {
			return nil, fmt.Errorf("no system is named %q; -list shows them", name)
		}
	}
	return out, nil
}

// A point is one load.
type point struct {
	Payload int // bytes
	Writers int
	Members int
	Shim    bool          `json:",omitempty"` // through proxies
	Delay   time.Duration `json:",omitempty"` // of the proxies, one way
	Preload int           `json:",omitempty"` // records in the log before
}

func (p point) String() string {
	s := fmt.Sprintf("%s × %d", bytesString(p.Payload), p.Writers)
	if p.Members != 3 {
		s += fmt.Sprintf(", %d members", p.Members)
	}
	if p.Shim {
		s += fmt.Sprintf(", %v delay", p.Delay)
	}
	if p.Preload > 0 {
		s += fmt.Sprintf(", log of %d", p.Preload)
	}
	return s
}

func bytesString(n int) string {
	if n >= 1<<10 && n%(1<<10) == 0 {
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d B", n)
}
