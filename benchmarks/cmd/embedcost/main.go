// Command embedcost builds the smallest program with baton and the same with hashicorp/raft and raft-boltdb, and
// prints the size of each, how many modules it brings, and the time from its start to its first acknowledged
// append in a new directory.
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/baton-ha/baton/benchmarks/internal/harness"
)

func main() {
	runs := flag.Int("runs", 9, "starts of each")
	dir := flag.String("dir", os.TempDir(), "where the directories are made; must be on a disk")
	flag.Parse()
	if err := run(*dir, *runs); err != nil {
		fmt.Fprintln(os.Stderr, "embedcost:", err)
		os.Exit(1)
	}
}

func run(dir string, runs int) error {
	dir, err := os.MkdirTemp(dir, "baton-embed-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-stop
		os.RemoveAll(dir)
		os.Exit(1)
	}()
	fmt.Printf("| program | size | stripped (-s -w) | modules | first append, new directory (median of %d) | lowest–highest |\n|---|---|---|---|---|---|\n", runs)
	const module = "github.com/baton-ha/baton/benchmarks/embed/"
	bins := map[string]string{}
	names := []string{"baton", "hashiraft"}
	var rows []string
	for _, name := range names {
		full, err := build(module+name, filepath.Join(dir, name), "")
		if err != nil {
			return err
		}
		small, err := build(module+name, filepath.Join(dir, name+"-stripped"), "-s -w")
		if err != nil {
			return err
		}
		bins[name] = filepath.Join(dir, name)
		mods, err := modules(bins[name])
		if err != nil {
			return err
		}
		rows = append(rows, fmt.Sprintf("| %s | %.1f MiB | %.1f MiB | %d |", name, full, small, mods))
	}
	times := map[string][]time.Duration{}
	for i := range runs { // interleaved, as all that is compared
		for _, name := range names {
			d, err := firstAppend(bins[name], filepath.Join(dir, fmt.Sprint(name, "-data", i)))
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			times[name] = append(times[name], d)
		}
	}
	for i, name := range names {
		t := times[name]
		slices.Sort(t)
		ms := func(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }
		fmt.Printf("%s %v | %v–%v |\n", rows[i], ms(t[len(t)/2]), ms(t[0]), ms(t[len(t)-1]))
	}
	return nil
}

func build(pkg, out, ldflags string) (mib float64, err error) {
	if text, err := exec.Command("go", "build", "-ldflags="+ldflags, "-o", out, pkg).CombinedOutput(); err != nil {
		return 0, fmt.Errorf("build %s: %w\n%s", pkg, err, text)
	}
	fi, err := os.Stat(out)
	if err != nil {
		return 0, err
	}
	return float64(fi.Size()) / (1 << 20), nil
}

// modules counts the modules that are linked into a program, itself not counted.
func modules(bin string) (int, error) {
	out, err := exec.Command("go", "version", "-m", bin).Output()
	return strings.Count(string(out), "\n\tdep\t"), err
}

// firstAppend starts a program and waits until it says that its append is acknowledged.
func firstAppend(bin, data string) (time.Duration, error) {
	addrs, err := harness.Ports(1)
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(bin, data, addrs[0])
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	took := time.Since(begin)
	if werr := cmd.Wait(); err != nil || werr != nil {
		return 0, errors.Join(err, werr)
	}
	if line != "appended\n" {
		return 0, fmt.Errorf("it says %q", line)
	}
	return took, nil
}
