package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// asked is where a copy of the test finds the directory in which it is to mount.
const asked = "CATCHUP_MOUNT_IN"

// TestMountEach: members have file systems of their own, of which nothing is left when who has mounted them is gone.
func TestMountEach(t *testing.T) {
	if dir := os.Getenv(asked); dir != "" {
		inside(t, dir)
		return
	}
	for _, name := range []string{"losetup", "mkfs.ext4"} {
		if _, err := exec.LookPath(name); err != nil || os.Geteuid() != 0 {
			t.Skip("it takes root, losetup and mkfs.ext4")
		}
	}
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^TestMountEach$")
	cmd.Env = append(os.Environ(), asked+"="+dir)
	ownMounts(cmd)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, name := range []string{"a", "b", "images"} {
		if left, err := os.ReadDir(filepath.Join(dir, name)); err != nil || len(left) > 0 {
			t.Errorf("%s holds %v, %v", name, left, err)
		}
	}
}

func inside(t *testing.T, dir string) {
	if err := mountEach(dir, []string{"a", "b"}, 64<<20); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b"} {
		file := filepath.Join(dir, name, "file")
		if left, err := os.ReadDir(filepath.Dir(file)); err != nil || len(left) > 0 {
			t.Errorf("%s holds %v, %v", name, left, err)
		}
		f, err := os.Create(file)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.WriteString("a")
		if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
			t.Error(err)
		}
	}
	if err := os.Link(filepath.Join(dir, "a", "file"), filepath.Join(dir, "b", "link")); err == nil {
		t.Error("both are one file system")
	}
}

func TestCheckKinds(t *testing.T) {
	for _, c := range []struct {
		kinds, names []string
		root, ok     bool
	}{
		{[]string{sharedDisk}, []string{"baton", "etcd"}, false, true},
		{[]string{sharedDisk, "none"}, []string{"baton"}, false, false},
		{[]string{eachDisk}, []string{"baton", "etcd"}, true, true},
		{[]string{apartDisk}, []string{"baton", "baton-add"}, true, true},
		{[]string{apartDisk}, []string{"baton", "etcd"}, true, false},
	} {
		want := c.ok && (!c.root || os.Geteuid() == 0)
		if err := checkKinds(c.kinds, c.names); (err == nil) != want {
			t.Errorf("%v for %v: %v", c.kinds, c.names, err)
		}
	}
}
