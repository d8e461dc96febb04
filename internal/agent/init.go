//go:build linux

package agent

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// The names (argv[0]) by which this program is one of its helpers.
const (
	guardianName = "baton-guardian"
	initName     = "baton-init"
)

// Helper does not return if this process is one of the agent's helpers. Programs that use the package call it first in main.
func Helper() {
	switch os.Args[0] {
	case guardianName:
		runtime.LockOSThread() // Pdeathsig is about the thread that has started the process
		os.Exit(guard())
	case initName:
		runtime.LockOSThread()
		unix.CloseOnExec(3)
		os.Exit(beInit(os.Args[1:], os.NewFile(3, "started")))
	}
	if os.Getpid() == 1 && len(os.Args) > 1 && os.Args[1] == "agent" {
		runtime.LockOSThread()
		self, err := os.Executable()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(beInit(append([]string{self}, os.Args[1:]...), nil)) // of a container, with the agent as the program
	}
}

// beInit runs a program, waits for it and for all that is left to us, passes signals on to it, and returns its status. started, if not nil, is closed
// when signals reach the program.
func beInit(args []string, started *os.File) int {
	signals := make(chan os.Signal, 32) // what comes while one is passed on
	signal.Notify(signals)
	if os.Getpid() != 1 {
		_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	}
	path, err := exec.LookPath(args[0])
	var pid int
	if err == nil {
		pid, err = syscall.ForkExec(path, args, &syscall.ProcAttr{
			Env: os.Environ(), Files: []uintptr{0, 1, 2},
			Sys: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL},
		})
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "start %s: %v\n", args[0], err)
		return 127
	}
	if started != nil {
		started.Close()
	}
	for s := range signals {
		switch s {
		case syscall.SIGCHLD:
			if status, ended := reap(pid); ended {
				if os.Getpid() != 1 { // else the kernel does it
					killOrphans()
				}
				return status
			}
		case syscall.SIGURG, syscall.SIGPIPE: // the runtime's, and ours
		default:
			_ = syscall.Kill(-pid, s.(syscall.Signal))
		}
	}
	return 1
}

// reap waits for all that have ended. If the program is among them it returns its status as a shell has it.
func reap(pid int) (status int, ended bool) {
	for {
		var w syscall.WaitStatus
		switch p, err := syscall.Wait4(-1, &w, syscall.WNOHANG, nil); {
		case err == syscall.EINTR:
		case err != nil || p <= 0:
			return status, ended
		case p == pid && w.Signaled():
			status, ended = 128+int(w.Signal()), true
		case p == pid:
			status, ended = w.ExitStatus(), true
		}
	}
}

// commands are the processes that somebody waits for.
var commands struct {
	mu   sync.Mutex // guards pids, and that none is started while orphans are looked for
	pids map[int]bool
}

// runCommand is c.Run, for one that is no orphan.
func runCommand(c *exec.Cmd) error {
	commands.mu.Lock()
	err := c.Start()
	if err != nil {
		commands.mu.Unlock()
		return err
	}
	if commands.pids == nil {
		commands.pids = map[int]bool{}
	}
	commands.pids[c.Process.Pid] = true
	commands.mu.Unlock()
	err = c.Wait()
	commands.mu.Lock()
	defer commands.mu.Unlock()
	delete(commands.pids, c.Process.Pid)
	return err
}

// killOrphans kills all that have become ours because their parents have ended, and those that become ours by it.
func killOrphans() {
	for orphans := 1; orphans > 0; {
		orphans = 0
		commands.mu.Lock()
		for _, pid := range children() {
			if !commands.pids[pid] {
				orphans++
				_ = syscall.Kill(pid, syscall.SIGKILL)
				_, _ = syscall.Wait4(pid, nil, 0, nil)
			}
		}
		commands.mu.Unlock()
	}
}

// children returns the processes of which this one is the parent.
func children() (pids []int) {
	tasks, _ := os.ReadDir("/proc/self/task")
	for _, t := range tasks {
		b, _ := os.ReadFile("/proc/self/task/" + t.Name() + "/children")
		for _, field := range strings.Fields(string(b)) {
			if pid, err := strconv.Atoi(field); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}
