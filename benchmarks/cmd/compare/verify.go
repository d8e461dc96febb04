package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// verify shows for each system that it syncs for each append, with strace, and that it acknowledges nothing without
// a majority.
func (s settings) verify(ctx context.Context, w io.Writer) error {
	_, err := exec.LookPath("strace")
	strace := err == nil
	if !strace {
		fmt.Fprintln(w, "strace is not there: syncs are not counted")
	}
	fmt.Fprintf(w, "one writer of 128 B, 2 s:\n\n| system | appends | syncs | syncs per append | system calls | append without followers |\n|---|---|---|---|---|---|\n")
	p := point{Payload: 128, Writers: 1, Members: 3}
	for _, sys := range s.systems {
		if !sys.measures(p) || sys.name == "floor-pingpong" {
			continue
		}
		o := order{System: sys.name, Point: p, Dir: s.dir, Duration: 2 * time.Second}
		var wrap []string
		file := filepath.Join(s.dir, "strace")
		if strace {
			wrap = []string{"strace", "-f", "-qq", "-y", "-e", "trace=fsync,fdatasync,sync_file_range,msync,openat,pwrite64", "-e", "signal=none", "-o", file}
		}
		v, err := o.send(ctx, wrap...)
		if err != nil {
			return fmt.Errorf("%s: %w", sys.name, err)
		}
		calls, total := countSyncs(file)
		o.Verify = true
		q, err := o.send(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", sys.name, err)
		}
		fmt.Fprintf(w, "| %s | %d | %d | %.2f | %s | %s |\n", sys.name, v.Rate.Appends, total, float64(total)/float64(v.Rate.Appends), calls, q.Refuse)
	}
	return ctx.Err()
}

func countSyncs(file string) (calls string, total int) {
	b, err := os.ReadFile(file)
	if err != nil {
		return "", 0
	}
	text := string(b)
	var parts []string
	// A line of a call that was interrupted by another thread's begins with the name too; its end begins with "<...".
	for _, name := range []string{"fsync", "fdatasync", "sync_file_range", "msync"} {
		n := strings.Count(text, " "+name+"(")
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", name, n))
		}
		total += n
	}
	// Each write to a file that was opened with O_SYNC or O_DSYNC syncs. strace names the file of a descriptor.
	n := 0
	synced := map[string]bool{}
	for line := range strings.Lines(text) {
		if strings.Contains(line, "O_SYNC") || strings.Contains(line, "O_DSYNC") {
			if _, path, ok := strings.Cut(line, "\""); ok {
				path, _, _ = strings.Cut(path, "\"")
				synced[path] = true
			}
		} else if _, args, ok := strings.Cut(line, " pwrite64("); ok {
			if _, path, ok := strings.Cut(args, "<"); ok {
				path, _, _ = strings.Cut(path, ">")
				if synced[path] {
					n++
				}
			}
		}
	}
	if n > 0 {
		parts = append(parts, fmt.Sprintf("synced pwrite64 %d", n))
		total += n
	}
	return strings.Join(parts, ", "), total
}
