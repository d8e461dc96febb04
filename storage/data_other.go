//go:build !linux

package storage

import "io"

// dataFrom is not known here.
func dataFrom(_ io.ReaderAt, off int64) int64 { return off }
