package client_test

import (
	"path/filepath"
	"testing"

	"github.com/baton-ha/baton/internal/planted"
)

// plantedIn says in which test each planted bug must show.
var plantedIn = map[string]string{
	"append-repeated":    "TestAppendOpen",
	"page-again":         "TestJoin",
	"part-again":         "TestLargeBatches",
	"beat-forgotten":     "TestTailsShareBeats",
	"beat-of-one":        "TestTailsShareBeats",
	"call-asleep":        "TestT17_CallBeforeGarbage",
	"cursor-not-durable": "TestCursorDurable",
	"lent-twice":         "TestBorrow",
	"part-unsaid":        "TestTailsPart",
	"part-unverified":    "TestLargeBatches",
	"readers-untold":     "TestTailsTogether",
	"shared-memory":      "TestTailsTogether",
	"small-unverified":   "TestLargeBatches",
	"tail-gap":           "TestT12_RemoteTails",
	"tail-uncommitted":   "TestUncommitted",
	"way-open":           "TestWayIsClosed",
	"way-past":           "TestTailsTogether",
}

// TestPlanted builds these tests with one planted bug after the other and expects its test to fail. Run it with:
// go test ./ha/client -run TestPlanted -planted . -v
//
// Without the flag it only sees to it that each can be planted.
func TestPlanted(t *testing.T) {
	planted.Find(t, filepath.Join("..", ".."), plantedIn)
}
