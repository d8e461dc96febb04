// Package testseed gives tests their random numbers. A plain go test draws the same ones each time, so that nobody is
// stopped by what his change has nothing to do with; [Env] has it look elsewhere, as .ci/run does with each commit.
package testseed

import (
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
)

// Env is the environment variable with the seed, a decimal number of 64 bits.
const Env = "BATON_SEED"

var (
	mu    sync.Mutex
	drawn = map[string]uint64{} // by test: how many seeds it had so far
)

// New returns a seed for t. A test that asks again, in another run of -count for instance, gets the next one. If t fails
// the log says which one it had.
func New(t testing.TB) uint64 {
	t.Helper()
	seed := uint64(1)
	if s := os.Getenv(Env); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("%s: %v", Env, err)
		}
	}
	mu.Lock()
	seed += drawn[t.Name()]
	drawn[t.Name()]++
	mu.Unlock()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("replay with %s=%d", Env, seed)
		}
	})
	return seed
}

// Rand returns a source of random numbers from [New]'s seed.
func Rand(t testing.TB) *rand.Rand {
	t.Helper()
	return rand.New(rand.NewPCG(New(t), 0))
}
