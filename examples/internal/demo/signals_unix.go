//go:build unix

package demo

import (
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

const canPause = true

var interrupts = []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP}

func pause(pid int) error  { return syscall.Kill(pid, syscall.SIGSTOP) }
func resume(pid int) error { return syscall.Kill(pid, syscall.SIGCONT) }

// isolate puts a member in a process group of its own: Ctrl-C at the terminal reaches only us, who
// clean up. And should we be killed while the member is paused, its group is an orphaned one with
// a stopped process: the system then sends it SIGHUP and wakes it.
func isolate(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// ignoreBrokenPipe lets us clean up when nobody reads our output any more, as in "… | head".
func ignoreBrokenPipe() { signal.Ignore(syscall.SIGPIPE) }
