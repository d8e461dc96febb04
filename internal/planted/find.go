package planted

import (
	"os/exec"
	"path/filepath"
	"regexp"
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
			dir := t.TempDir()
			overlay, err := b.Overlay(root, dir)
			if err != nil {
				t.Fatal(err)
			}
			binary := filepath.Join(dir, "planted.test")
			if out, err := exec.Command("go", "test", "-c", "-vet=off", "-overlay", overlay, "-o", binary, ".").CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if out, err := exec.Command(binary, "-test.run=^"+test+"$", "-test.timeout=5m").CombinedOutput(); err == nil {
				t.Errorf("%s does not find it:\n%s", test, out)
			}
		})
	}
}
