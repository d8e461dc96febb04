package vfs

import (
	"path/filepath"
	"testing"

	"github.com/baton-ha/baton/internal/planted"
)

// plantedIn says in which test each planted bug must show.
var plantedIn = map[string]string{
	"elsewhere-is-here": "TestLockFromElsewhere",
	"failure-unseen":    "TestDirectWrites",
	"killed-lives":      "TestLockOfTheLiving",
	"living-awaited":    "TestLockOfTheLiving",
	"locked-twice":      "TestLockTwice",
	"not-awaited":       "TestDirectWritesTogether",
	"refused-for-good":  "TestDirectWriteRefused",
	"short-is-end":      "TestReadBlocks",
	"short-is-whole":    "TestDirectWrites",
	"slot-shared":       "TestDirectWriteUnderWay",
}

// TestPlanted builds these tests with one planted bug after the other and expects its test to fail. Run it with:
// go test ./internal/vfs -run TestPlanted -planted . -v
//
// Without the flag it only sees to it that each can be planted.
func TestPlanted(t *testing.T) {
	planted.Find(t, filepath.Join("..", ".."), plantedIn)
}
