package cmdtest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/baton-ha/baton/internal/cmdline"
	"github.com/baton-ha/baton/internal/loopback"
)

// patience bounds every wait of these tests; it is only ever used up by a failure.
const patience = 60 * time.Second

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"baton": func() { os.Exit(cmdline.Main(os.Args)) },
		"code":  code,
		"again": again,
	})
}

// code runs a command that must end with a code: code 4 baton members remove a.
func code() {
	want, err := strconv.Atoi(os.Args[1])
	if err != nil {
		panic(err)
	}
	c := exec.Command(os.Args[2], os.Args[3:]...)
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	err = c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		panic(err)
	}
	if got := c.ProcessState.ExitCode(); got != want {
		fmt.Fprintf(os.Stderr, "code: it has ended with %d, want %d\n", got, want)
		os.Exit(1)
	}
	os.Exit(0)
}

// again runs a command until it succeeds, and shows what it has said last: what a busy machine makes the cluster refuse is asked for again.
func again() {
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		var out, errs bytes.Buffer
		c := exec.Command(os.Args[1], os.Args[2:]...)
		c.Stdout, c.Stderr = &out, &errs
		err := c.Run()
		if err == nil || time.Now().After(deadline) {
			os.Stdout.Write(out.Bytes())
			os.Stderr.Write(errs.Bytes())
			if err != nil {
				os.Exit(1)
			}
			os.Exit(0)
		}
	}
}

// TestScripts runs testdata/script: each with a directory and, where it asks for one, a cluster of its own.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("HOST", loopback.Host())
			e.Setenv("XDG_CONFIG_HOME", e.WorkDir+"/config")
			e.Values[clusterKey{}] = &cluster{dir: e.WorkDir + "/members"}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"cluster":  startCluster,
			"newcomer": startNewcomer,
			"start":    restartMember,
			"halt":     stopMember,
			"settle":   settle,
			"damage":   damage,
			"truncate": truncate,
		},
	})
}
