package ha

import (
	"slices"
	"testing"
	"testing/fstest"
)

func TestCgroupLimits(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	for name, test := range map[string]struct {
		fs   fstest.MapFS
		want []int64
	}{
		"none": {fstest.MapFS{}, nil},
		"version 2, its own and one above": {fstest.MapFS{
			"proc/self/cgroup": file("0::/a/b\n"), "sys/fs/cgroup/a/b/memory.max": file("max\n"), "sys/fs/cgroup/a/memory.max": file("268435456\n"),
		}, []int64{268435456}},
		"version 2 in a container": {fstest.MapFS{
			"proc/self/cgroup": file("0::/\n"), "sys/fs/cgroup/memory.max": file("1048576\n"),
		}, []int64{1048576}},
		"version 1": {fstest.MapFS{
			"proc/self/cgroup": file("9:name=systemd:/\n5:cpu,memory:/x\n0::/\n"),
			"sys/fs/cgroup/memory/x/memory.limit_in_bytes": file("1000\n"), "sys/fs/cgroup/memory/memory.limit_in_bytes": file("9223372036854771712\n"),
		}, []int64{1000, 9223372036854771712}},
	} {
		if got := cgroupLimits(test.fs); !slices.Equal(got, test.want) {
			t.Errorf("%s: %d", name, got)
		}
	}
}
