package ha

import (
	"io/fs"
	"math"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// systemLimits are the limits of memory that the system sets.
func systemLimits() []int64 {
	limits := cgroupLimits(os.DirFS("/"))
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		limits = append(limits, int64(min(uint64(info.Totalram)*uint64(info.Unit), math.MaxInt64)))
	}
	return limits
}

// cgroupLimits are those of the control groups that the process is in, of version 2 or 1, and of all groups above. In a
// container the path is often one that is not mounted there; then it is the root that has the container's limit.
func cgroupLimits(root fs.FS) (limits []int64) {
	groups, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(groups)) {
		id, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		controllers, group, _ := strings.Cut(rest, ":")
		mount, file := "sys/fs/cgroup", "memory.max"
		switch {
		case id == "0" && controllers == "":
		case strings.Contains(","+controllers+",", ",memory,"):
			mount, file = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
		default:
			continue
		}
		for dir := path.Clean("/" + group); ; dir = path.Dir(dir) {
			text, err := fs.ReadFile(root, path.Join(mount, dir, file))
			if limit, perr := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && perr == nil {
				limits = append(limits, limit) // else there is none: "max"
			}
			if dir == "/" {
				break
			}
		}
	}
	return limits
}
