package ha_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/baton-ha/baton/ha"
)

// TestObstacles_CoolDown: a failed OnActive is an obstacle with its error and its end, for Status, watchers and programs that
// read JSON, until somebody ends it.
func TestObstacles_CoolDown(t *testing.T) {
	t.Parallel()
	r := &roles{onActive: func(ctx context.Context, c *call) error {
		if c.token.Epoch == 1 {
			return errSick
		}
		<-ctx.Done()
		return nil
	}}
	c := withRoles(t, 1, r, func(cfg *ha.Config) { cfg.CoolDown = time.Hour })
	c.startAll()
	n := c.nodes["a"]
	var seen ha.Obstacle
	for s := range n.Watch(t.Context()) {
		if len(s.Obstacles) > 0 {
			seen = s.Obstacles[0]
			break
		}
	}
	if lasts := seen.Until.Sub(seen.Since); seen.Kind != ha.ObstacleCoolDown || !errors.Is(seen.Err, errSick) || lasts != time.Hour || time.Since(seen.Since) > time.Minute {
		t.Errorf("%+v, for %v", seen, lasts)
	}
	s := n.Status()
	if len(s.Problems) != 0 {
		t.Errorf("it is a problem, too: %v", s.Problems)
	}
	got, err := json.Marshal(s)
	if want := `"obstacles":[{"kind":"cool-down","text":"OnActive: sick","since":"`; err != nil || !bytes.Contains(got, []byte(want)) {
		t.Errorf("%s, %v; want %s in it", got, err, want)
	}
	if err := n.Become(t.Context(), ha.Active); err != nil {
		t.Error(err)
	}
	if s := n.Status(); s.State != ha.Active || len(s.Obstacles) != 0 {
		t.Errorf("after Become(Active): %v, %v", s.State, s.Obstacles)
	}
	c.closeAll()
}

// TestObstacles_RefuseBecome: a member whose OnActive hangs is not made Active again, and who asks is told why.
func TestObstacles_RefuseBecome(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	free := sync.OnceFunc(func() { close(release) })
	t.Cleanup(free)
	r := &roles{onActive: func(ctx context.Context, c *call) error {
		<-ctx.Done()
		if c.token.Epoch == 1 {
			<-release
		}
		return nil
	}}
	c := withRoles(t, 3, r, func(cfg *ha.Config) { cfg.DrainTimeout = 100 * time.Millisecond })
	c.startAll()
	n, token := c.active()
	if token.Epoch != 1 {
		t.Skipf("the role has moved before it was asked to: %v", token)
	}
	eventually(t, "OnActive runs", func() bool { return len(r.of(1)) == 1 })
	c.handOver(token)
	c.activeOtherThan(token)
	err := n.Become(t.Context(), ha.Active)
	var refused *ha.ObstacleError
	if !errors.Is(err, ha.ErrNotChosen) || !errors.As(err, &refused) || !strings.Contains(err.Error(), token.Holder+": callback: OnActive has not returned") {
		t.Errorf("Become(Active) while OnActive hangs: %v", err)
	} else if o := refused.Obstacles[token.Holder]; o[0].Kind != ha.ObstacleCallback || o[0].Since.IsZero() || !o[0].Until.IsZero() {
		t.Errorf("obstacles: %+v", o)
	}
	free()
	eventually(t, "nothing is in the way", func() bool { return len(n.Status().Obstacles) == 0 })
	if err := n.Become(t.Context(), ha.Active); err != nil {
		t.Error(err)
	}
	c.closeAll()
}
