package ha

import (
	"strings"
	"testing"

	"github.com/baton-ha/baton/internal/wire"
)

// Whoever is no member says the reasons of refusals in the same words.
func TestReasons(t *testing.T) {
	for code, err := range reasons {
		want, ok := strings.CutPrefix(err.Error(), "baton: ")
		if !ok {
			want = err.Error()
		}
		if got := wire.Reason(code).String(); got != want {
			t.Errorf("reason %d is %q here and %q on the wire", code, want, got)
		}
	}
	for code := wire.ReasonNoMember; code <= wire.ReasonNotChosen; code++ {
		if reasons[uint16(code)] == nil {
			t.Errorf("nobody gives the reason %q", code)
		}
	}
}
