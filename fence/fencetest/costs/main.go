// Costs measures what a token costs at each fence: it runs the benchmarks of the fences, which do the same work without a token and with
// one, and prints a table in Markdown. Run it from anywhere in the tree, with the servers that the fences need:
//
//	fence/fencetest/servers.sh run go -C fence/fencetest run ./costs
//
// Without servers it measures the other fences. -rounds says how often each is measured; the table has the best of the rounds, which is
// the one that was disturbed least.
package main

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// places are the directories that have such benchmarks, below fence.
var places = []string{".", "httpfence", "grpcfence", "filefence", "fencetest"}

// titles say what the benchmarks do. One that is not here is printed by its name.
var titles = map[string]string{
	"Guard":                        "`fence.Guard`, nothing to do",
	"Request":                      "HTTP request of 1 KiB, loopback",
	"Call/unary":                   "gRPC call of 1 KiB, in memory",
	"Call/stream":                  "gRPC message of 1 KiB in a stream, in memory",
	"Replace":                      "file of 4 KiB replaced, synced",
	"SQL/database=postgres":        "PostgreSQL, pgx: transaction that inserts a row",
	"SQL/database=mariadb":         "MariaDB: transaction that inserts a row",
	"SQL/database=sqlite":          "SQLite (WAL, synchronous=normal): transaction that inserts a row",
	"SQL/database=sqlite-rollback": "SQLite (synchronous=off): transaction that inserts a row",
	"Redis":                        "Redis: RPUSH",
	"S3":                           "S3 (versitygw): object of 4 KiB written",
}

// A pair is one benchmark: what it takes, in nanoseconds, by the variant of its token.
type pair struct {
	name string
	took map[string][]float64
}

func main() {
	rounds := flag.Int("rounds", 10, "how `often` each is measured")
	each := flag.Duration("time", 200*time.Millisecond, "how `long` each is measured at a time")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *rounds, *each); err != nil {
		fmt.Fprintln(os.Stderr, "costs:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, rounds int, each time.Duration) error {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return err
	}
	root := filepath.Dir(filepath.Dir(strings.TrimSpace(string(out)))) // of fencetest's go.mod
	tmp, err := os.MkdirTemp("", "costs-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	var pairs []*pair
	for i, place := range places {
		dir, test := filepath.Join(root, place), filepath.Join(tmp, strconv.Itoa(i))
		if _, err := output(ctx, dir, "go", "test", "-c", "-o", test, "."); err != nil {
			return err
		}
		for range rounds {
			out, err := output(ctx, dir, test, "-test.run", "^$", "-test.bench", ".", "-test.benchtime", each.String())
			if err != nil {
				return err
			}
			pairs = collect(pairs, out)
		}
	}
	fmt.Printf("The best of %d rounds of %v, %d processors, %s/%s.\n\n", rounds, each, runtime.NumCPU(), runtime.GOOS, runtime.GOARCH)
	fmt.Println("| | without | with a token | it costs | the first of a new token |\n|---|---|---|---|---|")
	for _, p := range pairs {
		print(p)
	}
	return nil
}

// output runs a command in a directory.
func output(ctx context.Context, dir, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	return out, nil
}

// collect reads the lines of a run, as "BenchmarkRequest/token=no-2   22345   53123 ns/op".
func collect(pairs []*pair, out []byte) []*pair {
	for s := bufio.NewScanner(bytes.NewReader(out)); s.Scan(); {
		f := strings.Fields(s.Text())
		if len(f) < 4 || !strings.HasPrefix(f[0], "Benchmark") || f[3] != "ns/op" {
			continue
		}
		name := strings.TrimPrefix(f[0], "Benchmark")
		if i := strings.LastIndex(name, "-"); i > 0 {
			name = name[:i]
		}
		name, token, ok := strings.Cut(name, "/token=")
		took, err := strconv.ParseFloat(f[2], 64)
		if !ok || err != nil {
			continue
		}
		i := slices.IndexFunc(pairs, func(p *pair) bool { return p.name == name })
		if i < 0 {
			i, pairs = len(pairs), append(pairs, &pair{name, map[string][]float64{}})
		}
		pairs[i].took[token] = append(pairs[i].took[token], took)
	}
	return pairs
}

// noise is by how much one measurement differs from the next, even of the best of many.
const noise = 0.05

func print(p *pair) {
	title := titles[p.name]
	if title == "" {
		title = p.name
	}
	no, yes := best(p.took["no"]), best(p.took["yes"])
	first := ""
	if took := p.took["new"]; len(took) > 0 {
		first = text(best(took))
	}
	costs := "below " + text(no*noise)
	if yes > no*(1+noise) {
		costs = text(yes - no)
	}
	fmt.Printf("| %s | %s | %s | %s | %s |\n", title, text(no), text(yes), costs, first)
}

func best(list []float64) float64 {
	if len(list) == 0 {
		return 0
	}
	return slices.Min(list)
}

// text writes nanoseconds with two digits.
func text(ns float64) string {
	switch {
	case ns >= 1e6:
		return round(ns/1e6) + " ms"
	case ns >= 1e3:
		return round(ns/1e3) + " µs"
	}
	return round(ns) + " ns"
}

func round(x float64) string {
	if x >= 10 {
		return fmt.Sprintf("%.0f", x)
	}
	return fmt.Sprintf("%.1f", x)
}
