package ha_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/baton-ha/baton/ha"
)

// sickAtFirst has the first OnActive fail.
func sickAtFirst() *roles {
	var once atomic.Bool
	return &roles{onActive: func(ctx context.Context, c *call) error {
		if once.CompareAndSwap(false, true) {
			return errSick
		}
		<-ctx.Done()
		return nil
	}}
}

// TestObstacles_CoolDown: a failed OnActive is an obstacle with its error and its end, for Status, watchers and programs that
// read JSON, until somebody ends it.
func TestObstacles_CoolDown(t *testing.T) {
	t.Parallel()
	r := sickAtFirst()
	c := withRoles(t, 1, r, func(cfg *ha.Config) { cfg.CoolDown = time.Hour })
	c.startAll()
	n := c.nodes["a"]
	var seen ha.Obstacle
	for s := range n.Watch(t.Context()) {
		if i := slices.IndexFunc(s.Obstacles, func(o ha.Obstacle) bool { return o.Kind == ha.ObstacleCoolDown }); i >= 0 {
			seen = s.Obstacles[i]
			break
		}
	}
	if lasts := seen.Until.Sub(seen.Since); !errors.Is(seen.Err, errSick) || lasts != time.Hour || time.Since(seen.Since) > time.Minute {
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
	if s := n.Status(); s.State != ha.Active || hasObstacle(n, ha.ObstacleCoolDown, nil, "") {
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
	} else if !slices.ContainsFunc(refused.Obstacles[token.Holder], func(o ha.Obstacle) bool {
		return o.Kind == ha.ObstacleCallback && !o.Since.IsZero() && o.Until.IsZero()
	}) {
		t.Errorf("obstacles: %+v", refused.Obstacles)
	}
	free()
	eventually(t, "it has returned", func() bool { return !hasObstacle(n, ha.ObstacleCallback, nil, "") })
	if err := n.Become(t.Context(), ha.Active); err != nil {
		t.Error(err)
	}
	c.closeAll()
}
