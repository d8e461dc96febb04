// Package parallel runs tests that mostly wait: for timeouts, and for clusters that begin and close. Only tests use it.
package parallel

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// Main is the TestMain of a package whose tests wait. It runs so many of those that are parallel at a time, where nobody asks for another number (-parallel)
// and there are not more processors, and fails if goroutines are left at the end.
func Main(m *testing.M, abreast int) {
	flag.Parse()
	if parallel := flag.Lookup("test.parallel"); parallel.Value.String() == parallel.DefValue {
		_ = parallel.Value.Set(strconv.Itoa(max(abreast, runtime.GOMAXPROCS(0))))
	}
	code := m.Run()
	if code == 0 {
		if err := left(); err != nil {
			fmt.Fprintf(os.Stderr, "goroutines are left: %v\n", err)
			code = 1
		}
	}
	os.Exit(code)
}

// lookups is how long the system's resolver may go on with the lookup of a name for which nobody waits any more, where no name server answers.
const lookups = 30 * time.Second

// left says which goroutines do not end.
func left() (err error) {
	for until := time.Now().Add(lookups); time.Now().Before(until); {
		if err = goleak.Find(); err == nil {
			return nil
		}
	}
	return err
}
