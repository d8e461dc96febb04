package check

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// buildah builds images as docker build does, without a daemon and here without a registry: what FROM names must be there.
type buildah struct {
	t    *testing.T
	path string
	dir  string
}

func newBuildah(t *testing.T) *buildah {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("it needs root")
	}
	b := &buildah{t, need(t, "buildah", "buildah"), t.TempDir()}
	t.Cleanup(func() { _, _ = b.run("rm", "--all") }) // its mounts
	return b
}

func (b *buildah) run(args ...string) (string, error) {
	c := exec.Command(b.path, append([]string{"--root", b.dir + "/store", "--runroot", b.dir + "/run", "--storage-driver", "vfs"}, args...)...)
	c.Env = append(os.Environ(), "BUILDAH_ISOLATION=chroot")
	c.Dir = "../.."
	var errs strings.Builder
	c.Stderr = &errs
	out, err := c.Output()
	if err != nil {
		err = fmt.Errorf("buildah %s: %w\n%s%s", strings.Join(args, " "), err, out, errs.String())
	}
	return strings.TrimSpace(string(out)), err
}

func (b *buildah) must(args ...string) string {
	b.t.Helper()
	out, err := b.run(args...)
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

var libraries = regexp.MustCompile(`/\S+`)

// golang makes the image that the Dockerfile's first stage is from: a shell and what the stage calls; Go is mounted into it.
func (b *buildah) golang(tag string) {
	b.t.Helper()
	root := b.t.TempDir()
	copied := func(from, to string) {
		text, err := os.ReadFile(from)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(filepath.Join(root, to)), 0o755)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(root, to), text, 0o755)
		}
		if err != nil {
			b.t.Fatal(err)
		}
	}
	for _, name := range []string{"sh", "mkdir"} {
		path, err := exec.LookPath(name)
		if err != nil {
			b.t.Fatal(err)
		}
		copied(path, "/bin/"+name)
		list, err := exec.Command("ldd", path).Output() // an error where it needs none
		for _, lib := range libraries.FindAllString(string(list), -1) {
			if err == nil {
				copied(lib, lib)
			}
		}
	}
	for _, dir := range []string{"tmp", "root", "go", "usr/local/go"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			b.t.Fatal(err)
		}
	}
	c := b.must("from", "scratch")
	b.must("copy", "-q", c, root, "/")
	b.must("config", "--env", "PATH=/usr/local/go/bin:/bin", "--env", "GOPATH=/go", "--env", "HOME=/root", "--env", "GOTOOLCHAIN=local", c)
	if _, err := b.run("run", c, "/bin/sh", "-c", "exit 0"); err != nil {
		b.t.Skipf("no container can be run here: %v", err)
	}
	b.must("commit", "-q", c, "docker.io/library/golang:"+tag)
	b.must("rm", c)
}

// TestDockerfile_Built builds the image, by the Dockerfile's own steps from what .dockerignore leaves of the repository, and runs what is in it. The stage that
// compiles has Go, its modules and its cache from this machine, since there is no registry to take golang from.
func TestDockerfile_Built(t *testing.T) {
	b := newBuildah(t)
	stages, _, err := readDockerfile()
	if err != nil {
		t.Fatal(err)
	}
	programs(t) // compiles, by the same commands, what is compiled in the stage
	download := exec.Command("go", "mod", "download")
	download.Dir = "../.."
	if out, err := download.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", download.Args, err, out)
	}
	b.golang(strings.TrimPrefix(stages[0].BaseName, "golang:"))
	env, err := exec.Command("go", "env", "GOROOT", "GOMODCACHE", "GOCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	host := strings.Fields(string(env))
	b.must("bud", "--pull-never", "--network", "none", "-v", host[0]+":/usr/local/go:ro", "-v", host[1]+":/go/pkg/mod", "-v", host[2]+":/root/.cache/go-build",
		"-f", "deploy/docker/Dockerfile", "-t", "kv", ".")
	var image struct {
		OCIv1 struct {
			Config struct {
				User, StopSignal string
				Entrypoint       []string
				ExposedPorts     map[string]any
				Volumes          map[string]any
			} `json:"config"`
		}
	}
	if err := json.Unmarshal([]byte(b.must("inspect", "--type", "image", "localhost/kv:latest")), &image); err != nil {
		t.Fatal(err)
	}
	is := image.OCIv1.Config
	if is.User != fmt.Sprintf("%d:%d", nobody, nobody) || is.StopSignal != "SIGTERM" || !slices.Equal(is.Entrypoint, []string{"/kv"}) || is.Volumes["/data"] == nil || len(is.ExposedPorts) != 2 {
		t.Errorf("the image is %+v", is)
	}
	root := b.must("mount", b.must("from", "--pull-never", "localhost/kv:latest"))
	var size int64
	var names []string
	all, err := os.ReadDir(root)
	for _, f := range all {
		if info, err := f.Info(); err == nil && info.Mode().IsRegular() {
			size += info.Size()
		}
		names = append(names, f.Name())
	}
	t.Logf("%v, %.1f MiB", names, float64(size)/(1<<20))
	for _, name := range []string{"baton", "data", "kv"} {
		if !slices.Contains(names, name) {
			t.Errorf("%v, %v: there is no %s", names, err, name)
		}
	}
	runImage(t, root, is.Entrypoint)
}
