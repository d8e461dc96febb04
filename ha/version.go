package ha

import (
	"runtime/debug"
	"strings"
	"sync"
)

// builtVersion is what is known of the version of the program from how it was built: the version of its main module, and the revision
// if that does not say it.
var builtVersion = sync.OnceValue(func() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	version := strings.Trim(info.Main.Version, "()")
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && !strings.Contains(version, s.Value[:min(len(s.Value), 12)]) {
			version += " " + s.Value[:min(len(s.Value), 12)]
		}
	}
	return strings.TrimSpace(version)
})
