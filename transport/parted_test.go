package transport

import "testing"

// TestParted: that a peer is gone is news, unless it has said that it leaves.
func TestParted(t *testing.T) {
	for _, left := range []bool{false, true} {
		var l lines
		ca, cb := config("a"), config("b")
		ca.CrashEvidence = true
		ca.Logger, ca.Parted = l.logger(), func(peer string) bool { return peer == "b" && left }
		a, b := listen(t, ca), listen(t, cb)
		a.start(t, b.self)
		b.start(t, a.self)
		eventually(t, "they are connected", func() bool { return a.Stats().Peers[0].Control.Connects > 0 && b.Stats().Peers[0].Control.Connects > 0 })
		b.Close()
		a.wait(t, "b is gone", func() bool { return len(a.gone) > 0 })
		if said := len(l.with(lineGone)) > 0; said == left {
			t.Errorf("left %v, said %v", left, said)
		}
	}
}
