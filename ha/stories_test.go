package ha_test

import (
	"bytes"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/baton-ha/baton/ha"
)

// TestLog_Stories reads what the members say while one is added, changed, commanded and removed: each thing once, on each member, in its order, and
// nothing that docs/operating.md does not explain.
func TestLog_Stories(t *testing.T) {
	t.Parallel()
	said := &pages{of: map[string]*bytes.Buffer{}}
	var c *cluster
	c = newCluster(t, 4, func(cfg *ha.Config) {
		quick(cfg)
		cfg.ObeyMembers = true
		cfg.Logger = slog.New(slog.NewTextHandler(page{said, cfg.Name}, nil))
		if cfg.Join = cfg.Name == "d"; !cfg.Join {
			cfg.Members = c.members[:3]
		}
	})
	t.Cleanup(func() {
		if t.Failed() {
			for _, m := range c.members {
				t.Logf("%s:\n%s", m.Name, strings.Join(said.with(m.Name, ""), ""))
			}
		}
	})
	three := []string{"a", "b", "c"}
	each := func(pattern string, names ...string) {
		t.Helper()
		for _, name := range names {
			eventually(t, name+" says "+pattern, func() bool { return len(said.with(name, pattern)) > 0 })
		}
	}
	c.start(three...)
	c.active()
	c.start("d")
	eventually(t, "d waits to be added", func() bool { return c.nodes["d"].Status().State == ha.Joining })
	eventually(t, "d is added", func() bool {
		return c.nodes["b"].AddMember(t.Context(), ha.Member{Name: "d", Addr: c.members[3].Addr}) == nil
	})
	each(`msg="the members have changed" .*peer=d cause=kind `, three...)
	eventually(t, "d follows", func() bool { return c.nodes["d"].Status().State == ha.Standby && c.nodes["d"].Status().Active != "" })
	eventually(t, "d has another priority", func() bool { return c.nodes["a"].SetPriority(t.Context(), "d", -5) == nil })
	each(`msg="the members have changed" .*peer=d cause=priority `, three...)
	eventually(t, "d stays away", func() bool { return c.nodes["a"].StayAwayOf(t.Context(), "d", "new disk") == nil })
	each(`msg=obstacle .*kind=away err="new disk"`, "d")
	eventually(t, "d is removed", func() bool { return c.nodes["c"].RemoveMember(t.Context(), "d") == nil })
	each(`msg="the members have changed" .*peer=d cause=removed `, three...)
	each(`level=ERROR msg="the member has failed, and takes no part any more" .*removed from its cluster`, "d")
	c.stop("c")
	each(`level=INFO msg="a member has left" .*peer=c\b`, "a", "b")
	c.closeAll()
	each(`msg=closed`, three...)

	story := []string{
		`msg="the members have changed" .*peer=d cause=added why="d at .* was added, and is to be a voter once it has caught up"`,
		`msg="the members have changed" .*peer=d cause=kind why="d is a voter now"`,
		`msg="the members have changed" .*peer=d cause=priority why="d has the priority -5 now"`,
		`msg="the members have changed" .*peer=d cause=removed why="d was removed"`,
		`msg=closed`,
	}
	for _, name := range three {
		all := said.with(name, strings.Join(story, "|"))
		for i, pattern := range story {
			if lines := said.with(name, pattern); len(lines) != 1 || len(all) != len(story) || lines[0] != all[i] {
				t.Errorf("%s says %q as %q, of %q", name, pattern, lines, all)
			}
		}
	}
	for _, pattern := range []string{`msg=opened `, `msg=commanded .*command="stay away" role=member by=a`, `kind=observer`} {
		if lines := said.with("d", pattern); (len(lines) > 0) == strings.Contains(pattern, "observer") {
			t.Errorf("d says %q as %q", pattern, lines)
		}
	}
	text, err := os.ReadFile("../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	var known []string
	for _, m := range regexp.MustCompile("(?m)^\\| (`.*?`) \\|").FindAllStringSubmatch(string(text), -1) {
		for _, line := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(m[1], -1) {
			known = append(known, strings.ReplaceAll(regexp.QuoteMeta(line[1]), "…", ".*"))
		}
	}
	explained := regexp.MustCompile(`level=\w+ msg="?(` + strings.Join(known, "|") + `)`)
	for _, m := range c.members {
		for _, line := range said.with(m.Name, "") {
			if !explained.MatchString(line) {
				t.Errorf("docs/operating.md does not explain what %s says: %s", m.Name, line)
			}
		}
	}
}
