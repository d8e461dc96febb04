//go:build mutants

package mutant

// Enabled names the bug that is switched on. It is set by tests, before any member starts.
var Enabled string

// On reports whether the named bug is switched on.
func On(name string) bool { return name == Enabled }
