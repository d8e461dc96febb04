package check

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

// compose reads a file as docker compose does.
func compose(path string) (*types.Project, error) {
	options, err := cli.NewProjectOptions([]string{path}, cli.WithResolvedPaths(true))
	if err != nil {
		return nil, err
	}
	return options.LoadProject(context.Background())
}

func TestCompose(t *testing.T) {
	p, err := compose("../docker/compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Services) != 3 {
		t.Errorf("%d services", len(p.Services))
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	published := map[string]string{}
	for name, s := range p.Services {
		if got := s.Environment["BATON_NAME"]; got == nil || *got != name {
			t.Errorf("%s: BATON_NAME is %v", name, got)
		}
		if got := s.Environment["BATON_MEMBERS"]; got == nil || *got != "a=a:7000,b=b:7000,c=c:7000" {
			t.Errorf("%s: BATON_MEMBERS is %v", name, got)
		}
		if s.Build == nil || s.Build.Context != root {
			t.Errorf("%s is built in %+v, want %s", name, s.Build, root)
		} else if _, err := os.Stat(filepath.Join(root, s.Build.Dockerfile)); err != nil {
			t.Error(err)
		}
		for _, port := range s.Ports {
			if port.HostIP != "127.0.0.1" || port.Target != 8080 || published[port.Published] != "" {
				t.Errorf("%s: port %+v", name, port)
			}
			published[port.Published] = name
		}
		if len(s.Volumes) != 1 || s.Volumes[0].Source != "data-"+name || s.Volumes[0].Target != "/data" || s.Volumes[0].Type != "volume" {
			t.Errorf("%s: volumes %+v", name, s.Volumes)
		}
	}
}

func TestCompose_Planted(t *testing.T) {
	b, err := os.ReadFile("../docker/compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for old, planted := range map[string]string{
		"restart: unless-stopped":   "restrat: unless-stopped",
		"read_only: true":           "read_only: [maybe]",
		`volumes: ["data-a:/data"]`: `volumes: ["data-d:/data"]`,
		"stop_grace_period: 45s":    "stop_grace_period: soon",
		"<<: *member\n    env":      "<<: *nobody\n    env",
		`ports: ["127.0.0.1:8081:`:  `ports: ["127.0.0.1:x8081:`,
	} {
		if !strings.Contains(string(b), old) {
			t.Errorf("there is no %q", old)
		}
		path := filepath.Join(t.TempDir(), "compose.yaml")
		if err := os.WriteFile(path, []byte(strings.Replace(string(b), old, planted, 1)), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := compose(path); err == nil {
			t.Errorf("%q passes", planted)
		}
	}
}
