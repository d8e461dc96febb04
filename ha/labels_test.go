package ha_test

import (
	"bytes"
	"runtime/pprof"
	"strings"
	"testing"
)

// TestGoroutinesHaveLabels: in a profile the goroutines of a member are told from the program's own.
func TestGoroutinesHaveLabels(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	for i := range c.members { // no other test's
		c.members[i].Name = "labelled-" + c.members[i].Name
	}
	c.startAll()
	c.active()
	var profile bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&profile, 1); err != nil {
		t.Fatal(err)
	}
	for name := range c.nodes {
		if n := strings.Count(profile.String(), `"baton":"`+name+`"`); n < 10 {
			t.Errorf("%d stacks are labelled as %s's", n, name)
		}
	}
	for stack := range strings.SplitSeq(profile.String(), "\n\n") {
		if strings.Contains(stack, "log.(*Log).run") && !strings.Contains(stack, "# labels:") {
			t.Errorf("without a label:\n%s", stack)
		}
	}
}
