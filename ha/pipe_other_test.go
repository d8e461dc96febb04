//go:build !unix

package ha

import "errors"

func makePipe(string) error { return errors.ErrUnsupported }
