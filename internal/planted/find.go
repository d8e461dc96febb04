package planted

import (
	"flag"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var match = flag.String("planted", "", "plant the bugs in testdata/planted whose names match this, one after the other, and expect the tests to find each")

// Wanted returns the bugs of the directory testdata/planted of the package that is tested, and which of them the flag -planted asks for. It sees to it
// that each can be planted. root is that of the module, from the package.
func Wanted(t *testing.T, root string) (all, wanted []Bug) {
	t.Helper()
	all, err := Load(filepath.Join("testdata", "planted"))
	if err != nil {
		t.Fatal(err)
	}
	asked, err := regexp.Compile(*match)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range all {
		if _, err := b.Plant(root); err != nil {
			t.Error(err)
		} else if *match != "" && asked.MatchString(b.Name) {
			wanted = append(wanted, b)
		}
	}
	return all, wanted
}

// Find builds the package's tests with one wanted bug after the other, and expects that the test that in names for it fails.
func Find(t *testing.T, root string, in map[string]string) {
	all, wanted := Wanted(t, root)
	for _, b := range all {
		if in[b.Name] == "" {
			t.Errorf("no test is named that finds %s", b.Name)
		}
	}
	for _, b := range wanted {
		t.Run(b.Name, func(t *testing.T) { Fails(t, b.Build(t, root), in[b.Name]) })
	}
}

// Build builds the tests of the package that is tested, but for those in the files without, with the bug.
func (b Bug) Build(t *testing.T, root string, without ...string) (binary string) {
	t.Helper()
	dir := t.TempDir()
	overlay, err := b.Overlay(root, dir, without...)
	if err != nil {
		t.Fatal(err)
	}
	binary = filepath.Join(dir, "planted.test")
	if out, err := exec.Command("go", "test", "-c", "-vet=off", "-ldflags=-s -w", "-overlay", overlay, "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return binary
}

// chances is how often a test is run that may find a bug by chance, as where two goroutines must meet.
const chances = "10"

// Fails expects a test of such a build to fail, with these flags, once in some runs.
func Fails(t *testing.T, binary, test string, flags ...string) {
	t.Helper()
	out, err := exec.Command(binary, append(flags, "-test.run=^"+test+"$", "-test.count="+chances, "-test.failfast", "-test.timeout=5m")...).CombinedOutput()
	if !strings.Contains(string(out), "--- FAIL: "+test+" ") {
		t.Errorf("%s does not find it: %v\n%s", test, err, out)
	}
}
