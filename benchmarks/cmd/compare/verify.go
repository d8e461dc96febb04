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
			wrap = []string{"strace", "-f", "-qq", "-e", "trace=fsync,fdatasync,sync_file_range,msync,openat", "-e", "signal=none", "-o", file}
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
	// Files opened with O_SYNC or O_DSYNC sync without a call.
	for line := range strings.Lines(text) {
		if strings.Contains(line, "O_SYNC") || strings.Contains(line, "O_DSYNC") {
			parts = append(parts, "O_DSYNC file")
			break
		}
	}
	return strings.Join(parts, ", "), total
}
