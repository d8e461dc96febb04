package storage

import "syscall"

// freeSpace returns how many bytes may still be written to the file system of path.
func freeSpace(path string) (int64, bool) {
	var st syscall.Statfs_t
	if syscall.Statfs(path, &st) != nil || st.Bsize <= 0 {
		return 0, false
	}
	return int64(st.Bavail) * int64(st.Bsize), true
}
