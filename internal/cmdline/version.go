package cmdline

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/baton-ha/baton/internal/session"
)

// versionText is the version of this program, as the go command has built it.
func versionText() string {
	version, commit := "(devel)", ""
	if info, ok := debug.ReadBuildInfo(); ok {
		if info.Main.Version != "" {
			version = info.Main.Version
		}
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				commit = ", commit " + s.Value
			}
		}
	}
	return fmt.Sprintf("baton %s, protocol %d, %s %s/%s%s", version, session.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH, commit)
}
