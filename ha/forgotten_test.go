package ha_test

import (
	"errors"
	"os"
	"testing"

	"github.com/baton-ha/baton/ha"
)

// A member that has lost its directory while the others were down finds it out when they come, and
// stops. The others go on, also the one that meets it only after that.
func TestT13_KnownNameEmptyDirectoryOthersLater(t *testing.T) {
	t.Parallel()
	c := used(t)
	c.closeAll()
	if err := os.RemoveAll(c.config("c").Dir); err != nil {
		t.Fatal(err)
	}
	c.start("c") // nobody is there to ask
	forgotten := c.nodes["c"]
	c.start("b")
	eventually(t, "c has stopped", func() bool { return forgotten.Status().State == ha.Failed })
	if err := forgotten.Status().Err; !errors.Is(err, ha.ErrForgotten) {
		t.Errorf("status of c: %v", err)
	}
	if _, err := forgotten.Append(t.Context(), forgotten.Status().Token, number(1)); !errors.Is(err, ha.ErrClosed) {
		t.Errorf("append on c: %v", err)
	}
	c.start("a")
	c.put(number(1))
	for _, name := range []string{"a", "b"} {
		if s := c.nodes[name].Status(); s.State == ha.Failed {
			t.Errorf("%s has stopped too: %v", name, s.Err)
		}
	}
	if err := forgotten.Close(); !errors.Is(err, ha.ErrForgotten) {
		t.Errorf("close of c: %v", err)
	}
	delete(c.nodes, "c")
	c.awaitSum(8, 2)
}
