//go:build !linux

package storage

// freeSpace is not known here: a next segment that cannot be made tells that there is no space.
func freeSpace(string) (int64, bool) { return 0, false }
