package storage

import (
	"testing"

	"github.com/baton-ha/baton/internal/planted"
)

// plantedIn says in which test each planted bug must show.
var plantedIn = map[string]string{
	"fall-back-not-taken": "TestReadOn",
	"growing-cached":      "TestReadOn",
	"memory-unaligned":    "TestReadOn",
	"offset-unaligned":    "TestReadOn",
	"read-behind":         "TestReadOn",
}

// TestPlanted builds these tests with one planted bug after the other and expects its test to fail. Run it with:
// go test ./storage -run TestPlanted -planted . -v
//
// Without the flag it only sees to it that each can be planted.
func TestPlanted(t *testing.T) {
	planted.Find(t, "..", plantedIn)
}
