//go:build linux

package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/internal/agent/state"
)

// A State says what of the program is replicated through the log. All members have one, or none has, from the beginning of the cluster on.
type State struct {
	// Pipe lets the program of Run write records: lines of JSON on its standard output, with answers on its standard input.
	Pipe bool `yaml:"pipe"`
	// Dir is a directory of the program, on each member: before the program begins it is what was committed last. A commit is asked
	// for by "baton agent commit", by a line on the pipe, and Every so often (0: not); what is there when the program has ended because the agent was asked to end
	// is committed, too.
	Dir   string   `yaml:"dir"`
	Every Duration `yaml:"every"`
	// MaxBytes bounds the records, and the directory. Every member has them in memory. 0: 64 MiB, at most 4 GiB.
	MaxBytes int64 `yaml:"max_bytes"`
}

func (s State) is() bool { return s.Pipe || s.Dir != "" }

func (s State) withDefaults() State {
	if s.MaxBytes == 0 {
		s.MaxBytes = 64 << 20
	}
	return s
}

func (c Config) validateState(wrong func(format string, args ...any)) {
	s := c.State
	if s.Pipe && len(c.Run) == 0 {
		wrong("state.pipe: there is no run")
	}
	if s.Dir != "" && (!filepath.IsAbs(s.Dir) || filepath.Clean(s.Dir) != s.Dir || s.Dir == "/") {
		wrong("state.dir: %q is not the plain absolute path of a directory", s.Dir)
	}
	if rel, err := filepath.Rel(s.Dir, c.Dir); s.Dir != "" && err == nil && filepath.IsLocal(rel) {
		wrong("state.dir: dir, which is the agent's, is in it")
	}
	if rel, err := filepath.Rel(c.Dir, s.Dir); s.Dir != "" && err == nil && filepath.IsLocal(rel) {
		wrong("state.dir: is in dir, which is the agent's")
	}
	if s.Every < 0 || s.Every != 0 && s.Dir == "" {
		wrong("state.every: %v, and dir is %q", time.Duration(s.Every), s.Dir)
	}
	if s.MaxBytes < 0 || s.MaxBytes > 4<<30 {
		wrong("state.max_bytes: %d is not 0 to 4 GiB", s.MaxBytes)
	}
	if path := c.commitPath(); s.Dir != "" && len(path) > maxSocket {
		wrong("dir: a socket beside it, %s, would have a name of more than %d bytes", path, maxSocket)
	}
}

const (
	maxSocket  = 107             // bytes of a socket's path (unix(7))
	lastWords  = 5 * time.Second // for what the program has written before its end
	answerTime = time.Second     // for who has asked for a commit to take the answer
)

// commitPath is a socket beside Dir: who connects to it asks for a commit, and is told what has become of it, in a line of JSON.
func (c Config) commitPath() string { return filepath.Clean(c.Dir) + ".commit" }

// statePath is a file beside Dir that says that State.Dir is ours.
func (c Config) statePath() string { return filepath.Clean(c.Dir) + ".state" }

// refuseCalls is the handler of an agent with a state: what others send must not become a record of the program's.
func refuseCalls(context.Context, fence.Token, ha.Request) ([]byte, error) {
	return nil, errors.New("an agent takes no calls")
}

// A keeper replicates the state during one role.
type keeper struct {
	cfg    State
	log    *slog.Logger
	files  *state.Files // nil without a directory
	socket net.Listener

	stdin, stdout *os.File // the program's ends of the pipes, until the guardian has them; nil without a pipe
	to, from      *os.File // ours

	role     context.Context // until the role ends, or end
	life     context.Context // until end
	cancel   context.CancelFunc
	work     sync.WaitGroup
	prepared chan error    // what has become of prepare; has room for it
	silent   chan struct{} // closed when the program says nothing any more
}

// keep begins to replicate; end must be called in any case. Before the program begins, prepare must have succeeded.
func (a *agent) keep(ctx context.Context, n *ha.Node, t fence.Token) (*keeper, error) {
	k := &keeper{cfg: a.cfg.State, log: a.log.With("member", a.cfg.Name, "token", t), prepared: make(chan error, 1), silent: make(chan struct{})}
	k.life, k.cancel = context.WithCancel(context.WithoutCancel(ctx))
	role, cancel := context.WithCancel(ctx)
	context.AfterFunc(k.life, cancel)
	k.role = role
	if k.cfg.Dir != "" {
		k.files = &state.Files{Node: n, Token: t, Machine: a.machine, Dir: k.cfg.Dir, Mark: a.cfg.statePath(), Max: k.cfg.MaxBytes}
		_ = os.Remove(a.cfg.commitPath()) // of an agent that was killed
		var err error
		if k.socket, err = net.Listen("unix", a.cfg.commitPath()); err != nil {
			return k, err
		}
	}
	if !k.cfg.Pipe {
		return k, nil
	}
	var err error
	if k.stdin, k.to, err = os.Pipe(); err == nil {
		k.from, k.stdout, err = os.Pipe()
	}
	if err != nil {
		return k, err
	}
	p := &state.Pipe{Node: n, Token: t, Machine: a.machine, Max: k.cfg.MaxBytes, Report: func(nonsense string) {
		k.log.Warn("the program has written a line that is no request; its standard output is for those alone", "line", nonsense)
	}}
	if k.files != nil {
		p.Commit = k.files.Commit
	}
	k.work.Go(func() {
		defer close(k.silent)
		if err := p.Run(k.life, k.from, k.to); err != nil && k.life.Err() == nil {
			k.log.Error("the program takes no answers", "err", err)
		}
	})
	return k, nil
}

// programs returns the program's ends of the pipes, for the guardian.
func (k *keeper) programs() []*os.File {
	if k.stdin == nil {
		return nil
	}
	return []*os.File{k.stdin, k.stdout}
}

// given closes them here: from now on they are the guardian's.
func (k *keeper) given() {
	for _, f := range k.programs() {
		f.Close()
	}
}

// prepare has the directory be what it should be before the program begins. Nothing of an earlier role may run any more.
func (k *keeper) prepare() {
	k.work.Go(func() {
		if err := k.files.Begin(k.role); err != nil {
			k.prepared <- fmt.Errorf("state.dir: %w", err)
			return
		}
		k.prepared <- nil
		k.work.Go(k.serve)
		if k.cfg.Every > 0 {
			k.work.Go(k.every)
		}
	})
}

// hear waits until all that the program has written is heard, if the role lasts so long. The program has ended.
func (k *keeper) hear() {
	if !k.cfg.Pipe {
		return
	}
	select {
	case <-k.silent:
	case <-k.role.Done():
	case <-time.After(lastWords): // something that nobody could kill holds its output open
	}
}

// commitLast commits what the program has left, having ended in good order.
func (k *keeper) commitLast() {
	if k.files == nil {
		return
	}
	if index, err := k.files.Commit(k.role); err != nil {
		k.log.Error("state.dir not committed at the end: the next Active has what was committed before", "err", err)
	} else {
		k.log.Info("state.dir committed at the end", "index", index)
	}
}

// end ends what keep has begun.
func (k *keeper) end() {
	k.cancel()
	if k.socket != nil {
		k.socket.Close()
	}
	for _, f := range []*os.File{k.stdin, k.stdout, k.to, k.from} {
		if f != nil {
			f.Close()
		}
	}
	k.work.Wait()
}

// every commits again and again. What has failed is said when it fails otherwise than the last time.
func (k *keeper) every() {
	tick := time.NewTicker(time.Duration(k.cfg.Every))
	defer tick.Stop()
	for last := ""; ; {
		select {
		case <-tick.C:
		case <-k.role.Done():
			return
		}
		text := ""
		if _, err := k.files.Commit(k.role); err != nil {
			text = err.Error()
		}
		if text != "" && text != last && k.role.Err() == nil {
			k.log.Error("state.dir not committed", "err", text)
		}
		last = text
	}
}

// serve answers those who ask for a commit.
func (k *keeper) serve() {
	for {
		conn, err := k.socket.Accept()
		if err != nil {
			return // it is closed
		}
		k.work.Go(func() {
			defer conn.Close()
			index, err := k.files.Commit(k.life)
			_ = conn.SetDeadline(time.Now().Add(answerTime))
			_ = json.NewEncoder(conn).Encode(committedAnswer(index, err))
		})
	}
}

func committedAnswer(index uint64, err error) committed {
	if err != nil {
		return committed{Error: state.Code(err), Text: err.Error()}
	}
	return committed{Index: index}
}
