//go:build !linux || (!amd64 && !arm64)

package heir

func start() (end func(), err error) { return func() {}, nil }
