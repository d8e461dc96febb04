package baton_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

const module = "github.com/baton-ha/baton"

// arrows says which packages of ours each package may import. A name that ends in "/..." stands for the
// whole tree. Packages in internal may be imported by every test besides.
var arrows = map[string][]string{
	".":                      nil,
	"fence":                  nil,
	"fence/filefence":        {"fence"},
	"fence/httpfence":        {"fence"},
	"fence/sqlfence":         {"fence"},
	"fence/redisfence":       {"fence"},
	"log":                    {"fence", "internal/calls", "internal/core", "internal/moment", "internal/stats"},
	"ha":                     {"log", "fence", "storage", "transport", "internal/calls", "internal/heir", "internal/lines", "internal/moment", "internal/stats", "internal/wire"},
	"ha/metrics":             {"ha", "internal/stats", "transport"},
	"ha/admin":               {"ha", "internal/calls", "internal/lines"},
	"ha/admin/internal/fake": {"ha"},
	"ha/activehttp":          {"ha", "fence", "fence/httpfence", "internal/tenure"},
	"ha/client":              {"fence", "internal/lines", "internal/session", "internal/wire"},
	"ha/onfence":             {"ha"},
	"ha/watchdog":            {"ha"},
	"storage":                {"internal/moment", "internal/stats", "internal/sum", "internal/vfs", "internal/yield"},
	"transport":              {"internal/moment", "internal/session", "internal/stats", "internal/sum"},
	"internal/calls":         nil,
	"internal/core":          {"internal/sum", "internal/yield"},
	"internal/heir":          nil,
	"internal/lines":         {"internal/calls"},
	"internal/moment":        nil,
	"internal/parallel":      nil,
	"internal/planted":       nil,
	"internal/session":       {"internal/moment"},
	"internal/sim":           nil,
	"internal/faultfs":       {"internal/vfs"},
	"internal/stats":         nil,
	"internal/sum":           nil,
	"internal/tenure":        {"ha", "fence"},
	"internal/upgrade":       {"ha"},
	"internal/vfs":           nil,
	"internal/hosts":         nil,
	"internal/testseed":      nil,
	"internal/loopback":      nil,
	"internal/sessionflood":  {"internal/wire"},
	"internal/wire":          nil,
	"internal/yield":         nil,
	"internal/agent":         {"ha", "ha/onfence", "ha/watchdog", "fence", "internal/agent/state"},
	"internal/agent/state":   {"ha", "fence"},
	"internal/cmdline":       {"ha", "ha/client", "fence", "storage", "internal/agent", "internal/session", "internal/stats"},
	"cmd/...":                {"internal/cmdline"},
	"examples/...":           {"ha", "ha/activehttp", "ha/admin", "ha/client", "fence", "fence/httpfence", "examples/internal/...", "examples/namenode/internal/..."},
	"deploy/service":         {"ha", "ha/activehttp", "ha/admin", "ha/metrics", "ha/watchdog"},
}

// testArrows says what the tests of a package may import of ours besides.
var testArrows = map[string][]string{
	"ha/admin":         {"ha/admin/internal/fake", "fence"},
	"ha/client":        {"ha"}, // a client needs a cluster
	"internal/upgrade": {"storage"},
}

// outside says who may import packages of others. The first line that fits an import decides; what fits
// none is free. A package that is followed by "_test" is meant in its tests only.
var outside = []struct {
	imports string
	by      []string
}{
	{"log", nil}, // the standard logger: we use log/slog
	{"go.etcd.io/raft/v3/raftpb", []string{"internal/core", "log", "storage", "transport", "ha_test", "internal/sim"}},
	{"go.etcd.io/raft/v3/...", []string{"internal/core"}},
	{"go.etcd.io/etcd/...", []string{"storage_test"}}, // it would bring gRPC and a lot more into every program
	{"go.uber.org/zap/...", nil},
}

// pure are packages that are state machines: they have no goroutines to keep apart, nothing to wait for, no clock and no files.
var pure = []string{"internal/core", "internal/sum", "internal/yield"}

// impure is what they must not import or call.
var (
	impureImports = []string{"context", "io/fs", "net", "net/...", "os", "os/...", "runtime", "runtime/...", "sync", "sync/...", "syscall"}
	impureCalls   = []string{"time.After", "time.AfterFunc", "time.NewTicker", "time.NewTimer", "time.Now", "time.Since", "time.Sleep", "time.Tick", "time.Until"}
)

// TestImportArrows reads the imports of every file of the module and fails on those that the design does
// not allow.
func TestImportArrows(t *testing.T) {
	wrong, err := wrongImports(os.DirFS("."))
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range wrong {
		t.Error(w)
	}
}

// wrongImports returns "file: import: why" for each import that is not allowed.
func wrongImports(tree fs.FS) (wrong []string, err error) {
	err = fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		switch base := path.Base(name); {
		case err != nil:
			return err
		case d.IsDir() && name != ".":
			_, err := fs.Stat(tree, path.Join(name, "go.mod"))
			if err == nil || base == "testdata" || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") {
				return fs.SkipDir // another module, or not of the build
			}
			return nil
		case d.IsDir() || !strings.HasSuffix(base, ".go"):
			return nil
		}
		src, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		isTest := strings.HasSuffix(name, "_test.go")
		f, err := parser.ParseFile(token.NewFileSet(), name, src, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		if !isTest && anyFits(pure, path.Dir(name)) {
			wrong = append(wrong, wrongCalls(name, f)...)
		}
		for _, spec := range f.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if why := forbidden(path.Dir(name), isTest, imported); why != "" {
				wrong = append(wrong, fmt.Sprintf("%s: imports %s: %s", name, imported, why))
			}
		}
		return nil
	})
	return wrong, err
}

// wrongCalls returns what a file of a pure package does that it must not: start goroutines, and ask for the time.
func wrongCalls(name string, f *ast.File) (wrong []string) {
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			wrong = append(wrong, name+": go: the package is pure")
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && slices.Contains(impureCalls, x.Name+"."+n.Sel.Name) {
				wrong = append(wrong, fmt.Sprintf("%s: %s.%s: the package is pure", name, x.Name, n.Sel.Name))
			}
		}
		return true
	})
	return wrong
}

// forbidden says why a package, or a test of it, must not import another; "" if it may.
func forbidden(pkg string, test bool, imported string) string {
	if own, ok := strings.CutPrefix(imported+"/", module+"/"); ok {
		own = strings.TrimSuffix(own, "/")
		rule, ok := ruleOf(pkg)
		switch {
		case !ok:
			return fmt.Sprintf("no rule says what package %s may import", pkg)
		case test && (own == pkg || strings.HasPrefix(own, "internal/") || anyFits(testArrows[pkg], own)):
			return ""
		case !anyFits(rule, own):
			return fmt.Sprintf("package %s may import of ours: %s", pkg, list(rule))
		}
		return ""
	}
	if !test && anyFits(pure, pkg) && anyFits(impureImports, imported) {
		return "the package is pure"
	}
	for _, line := range outside {
		if !fits(line.imports, imported) {
			continue
		}
		if anyFits(line.by, pkg) || test && anyFits(line.by, pkg+"_test") {
			return ""
		}
		return fmt.Sprintf("only these may: %s", list(line.by))
	}
	return ""
}

func ruleOf(pkg string) (may []string, ok bool) {
	for pattern, may := range arrows {
		if fits(pattern, pkg) {
			return may, true
		}
	}
	return nil, false
}

func anyFits(patterns []string, name string) bool {
	for _, p := range patterns {
		if fits(p, name) {
			return true
		}
	}
	return false
}

// fits reports whether a name is the pattern, or below it if the pattern ends in "/...".
func fits(pattern, name string) bool {
	root, tree := strings.CutSuffix(pattern, "/...")
	return name == root || tree && strings.HasPrefix(name, root+"/")
}

func list(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// unlinked are packages whose users must not have certain others in their programs, in whatever way.
var unlinked = map[string][]string{
	"internal/session": {"go.etcd.io/", "go.uber.org/zap", module + "/transport", module + "/storage", module + "/log"},
	"ha/client":        {"go.etcd.io/", "go.uber.org/zap", module + "/transport", module + "/storage", module + "/log", "google.golang.org/"},
	"fence":            {"go.etcd.io/", module + "/internal/"},
	"ha":               {"go.etcd.io/etcd", "go.uber.org/zap", "google.golang.org/grpc", "github.com/prometheus"},
}

// TestLinks asks the go command for all that a package brings along.
func TestLinks(t *testing.T) {
	for pkg, not := range unlinked {
		out, err := exec.Command("go", "list", "-deps", module+"/"+pkg).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		for _, dep := range strings.Fields(string(out)) {
			for _, no := range not {
				if strings.HasPrefix(dep, no) {
					t.Errorf("%s brings %s along", pkg, dep)
				}
			}
		}
	}
}

// TestImportArrows_Planted plants one import after the other into an empty tree.
func TestImportArrows_Planted(t *testing.T) {
	for _, c := range []struct {
		file, imports string
		allowed       bool
	}{
		{"fence/x.go", module + "/log", false},
		{"fence/x_test.go", module + "/fence", true},
		{"fence/httpfence/x.go", module + "/fence", true},
		{"fence/httpfence/x.go", module + "/ha", false},
		{"log/x.go", module + "/fence", true},
		{"log/x.go", module + "/storage", false},
		{"log/x_test.go", module + "/storage", false},
		{"log/x_test.go", module + "/internal/sim", true},
		{"log/x.go", module + "/internal/planted", false},
		{"log/x.go", module + "/internal/sim", false},
		{"log/x.go", "go.etcd.io/raft/v3", false},
		{"log/x.go", "go.etcd.io/raft/v3/raftpb", true},
		{"log/x.go", module + "/internal/core", true},
		{"internal/core/x.go", "go.etcd.io/raft/v3/tracker", true},
		{"internal/core/x.go", module + "/log", false},
		{"internal/core/x.go", "sync", false},
		{"internal/core/x.go", "sync/atomic", false},
		{"internal/core/x.go", "context", false},
		{"internal/core/x.go", "os", false},
		{"internal/core/x_test.go", "os", true},
		{"log/x.go", "go.uber.org/zap", false},
		{"storage/x.go", module + "/log", false},
		{"storage/x.go", "go.etcd.io/raft/v3", false},
		{"storage/x.go", "go.etcd.io/raft/v3/raftpb", true},
		{"storage/x.go", "go.etcd.io/etcd/server/v3/storage/wal", false},
		{"storage/x_test.go", "go.etcd.io/etcd/server/v3/storage/wal", true},
		{"storage/x.go", "go.uber.org/zap/zapcore", false},
		{"transport/x.go", module + "/storage", false},
		{"transport/x.go", module + "/internal/session", true},
		{"internal/session/x.go", module + "/transport", false},
		{"internal/session/x.go", "go.etcd.io/raft/v3/raftpb", false},
		{"transport/x_test.go", module + "/ha", false},
		{"transport/x.go", "go.etcd.io/etcd/server/v3/storage/wal", false},
		{"ha/x.go", module + "/storage", true},
		{"ha/x_test.go", module + "/internal/planted", true},
		{"ha/x.go", "go.etcd.io/raft/v3/raftpb", false},
		{"ha/x_test.go", "go.etcd.io/raft/v3/raftpb", true},
		{"ha/x_test.go", "go.etcd.io/raft/v3", false},
		{"ha/x.go", "log", false},
		{"ha/x.go", "log/slog", true},
		{"ha/client/x.go", module + "/ha", false},
		{"ha/client/x_test.go", module + "/ha", true},
		{"ha/client/x.go", module + "/transport", false},
		{"internal/sim/x.go", module + "/log", false},
		{"examples/counter/x.go", module + "/ha", true},
		{"examples/counter/x.go", module + "/log", false},
		{"examples/counter/x.go", module + "/examples/internal/demo", true},
		{"examples/counter/x_test.go", module + "/examples/queue", false},
		{"x.go", module + "/ha", false},
		{"util/x.go", module + "/fence", false}, // no rule
		{"ha/x.go", module, false},
		{"ha/x.go", module + "-else/log", true}, // not ours
	} {
		wrong, err := wrongImports(fstest.MapFS{c.file: {Data: fmt.Appendf(nil, "package x\n\nimport _ %q\n", c.imports)}})
		if err != nil {
			t.Fatal(err)
		}
		if c.allowed && len(wrong) > 0 {
			t.Errorf("%v", wrong)
		}
		if !c.allowed && (len(wrong) != 1 || !strings.Contains(wrong[0], c.file) || !strings.Contains(wrong[0], c.imports)) {
			t.Errorf("%s may import %s: %v", c.file, c.imports, wrong)
		}
	}
	for body, faults := range map[string]int{
		"var t = time.Now":                       1,
		"func f() { go f() }":                    1,
		"var t = time.NewTimer(time.Second)":     1,
		"var d time.Duration = 2 * time.Second":  0,
		"func f() { <-time.After(time.Second) }": 1,
	} {
		file := &fstest.MapFile{Data: []byte("package core\n\nimport \"time\"\n\n" + body + "\n")}
		for name, want := range map[string]int{"internal/core/x.go": faults, "internal/core/x_test.go": 0, "log/x.go": 0} {
			wrong, err := wrongImports(fstest.MapFS{name: file})
			if err != nil || len(wrong) != want {
				t.Errorf("%s with %q: %v, %v, want %d", name, body, wrong, err, want)
			}
		}
	}
	other := fstest.MapFS{
		"benchmarks/go.mod":  {Data: []byte("module x\n")},
		"benchmarks/x.go":    {Data: []byte("package x\n\nimport _ \"log\"\n")},
		"log/testdata/x.go":  {Data: []byte("package x\n\nimport _ \"log\"\n")},
		".hidden/x.go":       {Data: []byte("package x\n\nimport _ \"log\"\n")},
		"storage/readme.txt": {Data: []byte("import \"log\"\n")},
	}
	if wrong, err := wrongImports(other); err != nil || len(wrong) > 0 {
		t.Errorf("what is not of the module: %v, %v", wrong, err)
	}
}
