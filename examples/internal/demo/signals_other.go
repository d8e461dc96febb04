//go:build !unix

package demo

import (
	"errors"
	"os"
	"os/exec"
)

const canPause = false

var interrupts = []os.Signal{os.Interrupt}

func pause(int) error  { return errors.ErrUnsupported }
func resume(int) error { return errors.ErrUnsupported }

func isolate(*exec.Cmd) {}

func ignoreBrokenPipe() {}
