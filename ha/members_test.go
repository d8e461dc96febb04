package ha_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/baton-ha/baton/ha"
)

// TestT13_MemberListGrown: a cluster of one cannot be made one of three by editing the list: the two new
// ones would elect each other and know nothing.
func TestT13_MemberListGrown(t *testing.T) {
	c := newCluster(t, 3, nil)
	all := c.members
	c.members = all[:1]
	c.start("a")
	n, token := c.active()
	if _, err := n.Append(t.Context(), token, number(7)); err != nil {
		t.Fatal(err)
	}
	c.stop("a")
	c.members = all
	_, err := ha.Open(c.config("a"))
	if !errors.Is(err, ha.ErrMembers) || !strings.Contains(err.Error(), `["a"]`) || !strings.Contains(err.Error(), `["a" "b" "c"]`) {
		t.Fatalf("opened with a longer list: %v", err)
	}
	c.members = all[:1]
	c.start("a")
	c.awaitSum(7, 1)
}
