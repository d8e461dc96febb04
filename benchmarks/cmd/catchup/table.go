package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/baton-ha/baton/benchmarks/internal/harness"
)

// write writes the raw data and the table.
func write(path string, records []record) error {
	raw, err := os.Create(path + ".jsonl")
	if err != nil {
		return err
	}
	e := json.NewEncoder(raw)
	for _, r := range records {
		err = errors.Join(err, e.Encode(r))
	}
	if err := errors.Join(err, raw.Close()); err != nil {
		return err
	}
	md, err := os.Create(path + ".md")
	if err != nil {
		return err
	}
	table(md, records)
	return md.Close()
}

func table(w io.Writer, records []record) {
	fmt.Fprintf(w, "# Appends while a follower catches up, and while readers replay\n\n%s. Made by `go run ./cmd/catchup`.\n\n", harness.Machine())
	fmt.Fprint(w, "Times as the median of all appends, p99 and the longest. ×: beside undisturbed. Copy: what the follower, or all readers together,\n"+
		"got per second; in brackets beside what one core and the disk give (read a cold file, sum, send over loopback, sum, write, sync each MiB).\n"+
		"Away: one of two followers is stopped, and nothing is copied; an append then waits for the one that is left, instead of for the faster one.\n"+
		"Processors: how many of them the process keeps busy. Others: what part of all processors other processes take in user mode; more than a few per cent, and a row says little.\n"+
		"Disks: shared by all members; each: one in memory for every member; apart: one in memory for the member that lags.\n"+
		"Memory: the most of the process with all three members, mapped files not counted.\n\n")
	fmt.Fprintln(w, "| writers | system | disks | while | appends/s | p50 | p99 | max | copy MiB/s | processors | others | memory MiB | roles lost |")
	fmt.Fprintln(w, "|---|---|---|---|---|---|---|---|---|---|---|---|---|")
	for _, r := range records {
		if r.Err != "" {
			fmt.Fprintf(w, "| %d × %d B | %s | %s | failed: %s |\n", r.What.Class.Writers, r.What.Class.Payload, r.System, r.Disks, r.Err)
			continue
		}
		for _, row := range r.rows() {
			fmt.Fprintf(w, "| %d × %d B | %s | %s | %s |\n", r.What.Class.Writers, r.What.Class.Payload, r.System, r.Disks, row)
		}
	}
}

// rows are the cells of each stretch.
func (r record) rows() (rows []string) {
	for _, s := range []struct {
		name string
		harness.Stretch
		floor float64
	}{
		{"undisturbed", r.Got.Before, 0},
		{"a follower catches up", r.Got.Follower, r.CopyMiB},
		{"undisturbed again", r.Got.After, 0},
		{fmt.Sprintf("%d readers replay", r.What.Readers), r.Got.Readers, r.ReadMiB},
		{"a follower is away", r.Got.Away, 0},
	} {
		if s.Wall == 0 {
			continue
		}
		base, copied := r.Got.Before.Rate, ""
		if s.floor > 0 {
			copied = fmt.Sprintf("%.0f (%.2f of %.0f), %.1f s", s.MiB, s.MiB/s.floor, s.floor, s.Wall.Seconds())
			if !s.Done {
				copied += ", not done"
			}
		}
		rows = append(rows, fmt.Sprintf("%s | %.0f (× %.2f) | %v | %v (× %.1f) | %v | %s | %.2f | %.0f %% | %d | %d", s.name, s.Rate.PerSecond, s.Rate.PerSecond/max(base.PerSecond, 1),
			round(s.Rate.P50), round(s.Rate.P99), float64(s.Rate.P99)/float64(max(base.P99, 1)), round(s.Rate.Max), copied,
			s.Usage.CPU.Seconds()/s.Wall.Seconds(), 100*s.Usage.OthersUser, s.Memory>>20, s.Roles))
	}
	return rows
}

func (r record) print(w io.Writer) {
	fmt.Fprintf(w, "round %d  %d × %d B  %s, %s  (one core and the disk: copy %.0f MiB/s, read %.0f; filled with %.0f)\n",
		r.Round, r.What.Class.Writers, r.What.Class.Payload, r.System, r.Disks, r.CopyMiB, r.ReadMiB, r.Got.FillMiB)
	if r.Err != "" {
		fmt.Fprintf(w, "  failed: %s\n", r.Err)
		return
	}
	for _, row := range r.rows() {
		fmt.Fprintf(w, "  %s\n", row)
	}
	for _, d := range []harness.Stretch{r.Got.Before, r.Got.Follower, r.Got.After, r.Got.Readers, r.Got.Away} {
		if d.Problem != "" || d.Rate.LastError != "" {
			fmt.Fprintf(w, "  %d errors, %s %s\n", d.Rate.Errors, d.Problem, d.Rate.LastError)
		}
	}
}

// round keeps three digits.
func round(d time.Duration) time.Duration {
	unit := time.Duration(1)
	for d >= 1000*unit {
		unit *= 10
	}
	return d.Round(unit)
}
