package ha_test

import "testing"

// Whoever leads again carries out nothing of a cursor before it knows all that was committed: else it would find none to drop, an older place, or one
// behind the end.
func TestCursor_AfterAnElection(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, quick)
	c.start("a")
	again := func() {
		t.Helper()
		c.stop("a")
		c.start("a")
	}
	for i := range uint64(5) {
		c.put(number(1))
		if err := c.nodes["a"].SaveCursor(t.Context(), "reader", i+1); err != nil {
			t.Fatal(err)
		}
		again()
		if at, err := c.nodes["a"].Cursor(t.Context(), "reader"); err != nil || at != i+1 {
			t.Errorf("read: %d, %v, want %d", at, err, i+1)
		}
		again()
		if err := c.nodes["a"].SaveCursor(t.Context(), "reader", i+1); err != nil {
			t.Errorf("saved again: %v", err)
		}
		again()
		if err := c.nodes["a"].DropCursor(t.Context(), "reader"); err != nil {
			t.Errorf("dropped: %v", err)
		}
		c.put(number(1))
		if at, err := c.nodes["a"].Cursor(t.Context(), "reader"); err != nil || at != 0 {
			t.Errorf("after it was dropped: %d, %v", at, err)
		}
		if err := c.nodes["a"].DropCursor(t.Context(), "reader"); err != nil {
			t.Errorf("dropped: %v", err)
		}
	}
}
