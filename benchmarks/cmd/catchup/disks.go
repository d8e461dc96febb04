package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// Which disks the members of a point have. Where they share one, as they do nowhere but here, a synced write of any of them waits behind those of all, and what is
// written to the member that lags holds up the very two whose answers an append waits for. There is one disk here; others can be had in memory.
const (
	sharedDisk = "shared" // that of -dir, all of them
	eachDisk   = "each"   // each one in memory of its own; they have nothing to wait for but processors, of which they take more
	apartDisk  = "apart"  // the one that lags has one in memory, the others share that of -dir
)

var kinds = []string{sharedDisk, eachDisk, apartDisk}

// checkKinds refuses kinds that there are not, or not for these systems, or not without root.
func checkKinds(list, names []string) error {
	for _, kind := range list {
		switch {
		case !slices.Contains(kinds, kind):
			return fmt.Errorf("disks %q: want some of %s", kind, strings.Join(kinds, ", "))
		case kind != sharedDisk && os.Geteuid() != 0:
			return fmt.Errorf("disks %q: file systems are mounted, which takes root", kind)
		}
		for _, s := range systems {
			if kind == apartDisk && s.lags == "" && slices.Contains(names, s.name) {
				return fmt.Errorf("disks %q: it is not known beforehand which member of %s is to lag", kind, s.name)
			}
		}
	}
	return nil
}

// ownMounts has a command see mounts of its own, which end with it and what it has started, however they end. It takes root.
func ownMounts(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
}

// mountEach makes directories in dir, each an ext4 of so many bytes in memory. It is called by a process with mounts of its own.
func mountEach(dir string, names []string, size int64) error {
	if len(names) == 0 {
		return nil
	}
	images := filepath.Join(dir, "images")
	if err := os.Mkdir(images, 0o700); err != nil {
		return err
	}
	if err := syscall.Mount("tmpfs", images, "tmpfs", 0, fmt.Sprintf("size=%d,huge=always", int64(len(names))*size)); err != nil {
		return fmt.Errorf("mount a file system in memory: %w", err)
	}
	for _, name := range names {
		if err := mountOne(filepath.Join(dir, name), filepath.Join(images, name), size); err != nil {
			return fmt.Errorf("a file system for %s: %w", name, err)
		}
	}
	return nil
}

func mountOne(dir, image string, size int64) error {
	err := os.WriteFile(image, nil, 0o600)
	if err == nil {
		err = os.Truncate(image, size)
	}
	if err != nil {
		return err
	}
	device, err := tool("losetup", "--find", "--show", image)
	if err != nil {
		return err
	}
	// What mkfs would leave to be done in the background is done now.
	_, err = tool("mkfs.ext4", "-q", "-m", "0", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0", device)
	if err == nil {
		err = os.Mkdir(dir, 0o700)
	}
	if err == nil {
		err = syscall.Mount(device, dir, "ext4", 0, "")
	}
	_, detached := tool("losetup", "--detach", device) // as soon as nobody has it mounted
	if err = errors.Join(err, detached); err != nil {
		return err
	}
	return os.Remove(filepath.Join(dir, "lost+found"))
}

// tool runs a program and returns what it says.
func tool(name string, args ...string) (string, error) {
	out, err := exec.Command(name, args...).CombinedOutput()
	said := strings.TrimSpace(string(out))
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", name, err, said)
	}
	return said, nil
}
