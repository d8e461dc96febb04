// Package parallel runs tests that mostly wait: for timeouts, and for clusters that begin and close. Only tests use it.
package parallel

import (
	"flag"
	"runtime"
	"strconv"
	"testing"

	"go.uber.org/goleak"
)

// Main is the TestMain of a package whose tests wait. It runs so many of those that are parallel at a time, where nobody asks for another number (-parallel)
// and there are not more processors, and fails if goroutines are left at the end.
func Main(m *testing.M, abreast int) {
	flag.Parse()
	if parallel := flag.Lookup("test.parallel"); parallel.Value.String() == parallel.DefValue {
		_ = parallel.Value.Set(strconv.Itoa(max(abreast, runtime.GOMAXPROCS(0))))
	}
	goleak.VerifyTestMain(m)
}
