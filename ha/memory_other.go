//go:build !linux

package ha

// systemLimits are the limits of memory that the system sets; here they are not known.
func systemLimits() []int64 { return nil }
