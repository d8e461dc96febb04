package ha_test

import (
	"strings"
	"testing"
	"time"

	"github.com/baton-ha/baton/ha"
)

// A member whose own name does not resolve yet, as that of a pod which is not ready, is opened all the same, and says what it
// waits for.
func TestOwnNameDoesNotResolveYet(t *testing.T) {
	t.Parallel()
	start := time.Now()
	n, err := ha.Open(ha.Config{Name: "a", Dir: t.TempDir(), Cluster: "test", Members: []ha.Member{{Name: "a", Addr: "a.no-such-name.invalid:7001"}}})
	if err != nil || time.Since(start) > patience/2 {
		t.Fatalf("Open: %v after %v", err, time.Since(start))
	}
	defer n.Close()
	eventually(t, "Status says so", func() bool {
		for _, p := range n.Status().Problems {
			if p.Kind == "address" && strings.Contains(p.Err.Error(), "a.no-such-name.invalid") {
				return true
			}
		}
		return false
	})
}
