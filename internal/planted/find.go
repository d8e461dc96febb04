package planted

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Find plants each bug of the directory testdata/planted of the package that is tested. Of those whose names match wanted, "" for none, it builds
// the package's tests with one after the other, and expects that the test that in names for it fails. root is that of the module, from the package.
func Find(t *testing.T, root string, in map[string]string, wanted string) {
	bugs, err := Load(filepath.Join("testdata", "planted"))
	if err != nil {
		t.Fatal(err)
	}
	match, err := regexp.Compile(wanted)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range bugs {
		if _, err := b.Plant(root); err != nil {
			t.Error(err)
		}
		test := in[b.Name]
		if test == "" {
			t.Errorf("no test is named that finds %s", b.Name)
		}
		if wanted == "" || !match.MatchString(b.Name) {
			continue
		}
		t.Run(b.Name, func(t *testing.T) {
			Fails(t, b.Build(t, root), test)
		})
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

// Fails expects a test of such a build to fail, with these flags.
func Fails(t *testing.T, binary, test string, flags ...string) {
	t.Helper()
	out, err := exec.Command(binary, append(flags, "-test.run=^"+test+"$", "-test.timeout=5m")...).CombinedOutput()
	if !strings.Contains(string(out), "--- FAIL: "+test+" ") {
		t.Errorf("%s does not find it: %v\n%s", test, err, out)
	}
}
