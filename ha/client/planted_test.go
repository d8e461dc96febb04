package client_test

import (
	"flag"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/baton-ha/baton/internal/planted"
)

var plantBugs = flag.String("planted", "", "plant the bugs in testdata/planted whose names match this, one after the other, and expect the test of each to fail")

// plantedIn says in which test each planted bug must show.
var plantedIn = map[string]string{
	"append-repeated":    "TestAppendOpen",
	"part-again":         "TestLargeBatches",
	"cursor-not-durable": "TestCursorDurable",
	"part-unverified":    "TestLargeBatches",
	"small-unverified":   "TestLargeBatches",
	"tail-gap":           "TestT12_RemoteTails",
	"tail-uncommitted":   "TestUncommitted",
}

// TestPlanted builds these tests with one planted bug after the other and expects its test to fail. Run it with:
// go test ./ha/client -run TestPlanted -planted . -v
//
// Without the flag it only sees to it that each can be planted.
func TestPlanted(t *testing.T) {
	bugs, err := planted.Load(filepath.Join("testdata", "planted"))
	if err != nil {
		t.Fatal(err)
	}
	wanted, err := regexp.Compile(*plantBugs)
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Join("..", "..")
	for _, b := range bugs {
		if _, err := b.Plant(root); err != nil {
			t.Error(err)
		}
		test := plantedIn[b.Name]
		if test == "" {
			t.Errorf("no test is named that finds %s", b.Name)
		}
		if *plantBugs == "" || !wanted.MatchString(b.Name) {
			continue
		}
		t.Run(b.Name, func(t *testing.T) {
			dir := t.TempDir()
			overlay, err := b.Overlay(root, dir)
			if err != nil {
				t.Fatal(err)
			}
			binary := filepath.Join(dir, "client.test")
			if out, err := exec.Command("go", "test", "-c", "-vet=off", "-overlay", overlay, "-o", binary, ".").CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if out, err := exec.Command(binary, "-test.run=^"+test+"$", "-test.timeout=5m").CombinedOutput(); err == nil {
				t.Errorf("%s does not find it:\n%s", test, out)
			}
		})
	}
}
