package storage

import (
	"cmp"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/baton-ha/baton/internal/faultfs"
)

// makesDurable tells whether a call is there to make something durable.
func makesDurable(op *faultfs.Op) bool {
	return op.Kind == faultfs.OpSync || op.Kind == faultfs.OpSyncDir || op.Dsync
}

// site says which call in this package a call of the file system comes from: the function that decided on it, behind the helpers
// through which it went.
func site(op *faultfs.Op) string {
	var pcs [40]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	var names []string
	if op.Kind == faultfs.OpSyncDir {
		names = append(names, filepath.Base(op.Name)+":")
	}
	for {
		f, more := frames.Next()
		if _, name, ok := strings.Cut(f.Function, "baton/storage."); ok && !strings.HasSuffix(f.File, "_test.go") {
			parts := slices.DeleteFunc(strings.Split(name, "."), func(part string) bool { return strings.HasPrefix(part, "func") })
			name = parts[len(parts)-1]
			names = append(names, name)
			if !slices.Contains(helpers, name) {
				return strings.Join(names, " ")
			}
		}
		if !more {
			return strings.Join(names, " ")
		}
	}
}

// notForDurability are the syncs that nothing that was acknowledged rests on, and what they are there for.
var notForDurability = map[string]string{
	"reserve":   "commits the allocation beside the loop; else the first write to the segment would have to wait for that",
	"extend":    "writes zeros that nothing rests on, through a file that is open so",
	"fill":      "writes a log in pieces; the start that follows makes all of it durable",
	"unmake":    "TestFormCrashes; it is not called in a life",
	"Condemn":   "TestCondemn; it is not called in a life, and without it the damage is found again",
	"moveAside": "TestSetAside; it is not called in a life, and what it has not moved is moved at the next start",
	"syncBody":  "spreads the work of the sync at the end of a large snapshot",
	"Probe":     "shows how fast the disk is, and what it writes is deleted again",
	"run":       "the mark within a second: TestMarkIsSyncedWithinASecond",
}

// claims verifies what is promised for the time when everything that was asked for has been done: even after a power cut, the mark
// knows the vote, the snapshot in force and the last segment (at is the end of the log, or -1), and nothing says that the
// directory is unfinished.
func (l *life) claims(at int64) error {
	d, p := disk{l.fs.Crash(faultfs.Loss{})}, l.known()
	if _, err := d.Stat(filepath.Join(lifeDir, creatingName)); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is still there: %v", creatingName, err)
	}
	mark, m, err := d.readMark(filepath.Join(lifeDir, markName), testID.Incarnation, new(tally))
	if err != nil {
		return err
	}
	defer mark.f.Close()
	segs := l.w.segs
	if m.hs.term != p.m.hs.term || m.hs.vote != p.m.hs.vote || m.snap != p.m.snap || m.seq != segs[len(segs)-1].seq || at >= 0 && m.offset != uint64(at) {
		return fmt.Errorf("the mark is %+v, want %+v, snapshot %d, segment %d, offset %d", m, p.m.hs, p.m.snap, segs[len(segs)-1].seq, at)
	}
	return nil
}

// claimsOf does what live does, and verifies the claims.
func (l *life) claimsOf(script string) error {
	err := l.open()
	if err != nil {
		return err
	}
	err = l.claims(l.w.out.end())
	for _, step := range script {
		if err == nil {
			err = l.step(step)
		}
		if err == nil {
			err = l.claims(-1)
		}
	}
	at := l.w.out.end()
	if cerr := l.w.Close(); err != nil || cerr != nil {
		return cmp.Or(err, cerr)
	}
	return l.claims(at)
}

var errFound = errors.New("found")

// omit lives with one site left out, and returns what goes wrong, nil if nothing does. Starts of ordinary lives, from a copy of
// a directory and after a kill at any point, leave it out, too.
func omit(where string, direct bool, copied state, restarts []state) (found error) {
	forget := func(op *faultfs.Op) (f faultfs.Fault) {
		f.Forget = makesDurable(op) && site(op) == where
		return f
	}
	next := func(s state) error {
		s.fs = s.fs.Kill()
		s.fs.Inject(forget)
		return s.verifyTwice()
	}
	if found = next(copied); found != nil {
		return found
	}
	l := newLife(rand.New(rand.NewPCG(1, 0)), faultfs.New())
	if !direct {
		l.fs.NoDirect()
	}
	soon := 0
	l.fs.Inject(func(op *faultfs.Op) faultfs.Fault {
		if found != nil {
			return faultfs.Fault{Err: errFound}
		}
		if !op.Changes() {
			return faultfs.Fault{}
		}
		if soon > 0 {
			soon--
			what, p := fmt.Sprintf("%s of %s", op.Kind, op.Name), l.known()
			for _, loss := range losses(0, nil, 0) {
				found = cmp.Or(found, state{fmt.Sprintf("%s, names %s, data %s", what, loss.Names, loss.Data), op.Crash(loss), p}.verify())
			}
			found = cmp.Or(found, state{what + ", killed", op.Kill(), p}.verifyTwice())
		}
		f := forget(op)
		if f.Forget {
			soon = 30
		}
		return f
	})
	err := l.claimsOf(script)
	if err == nil {
		err = l.claimsOf("as")
	}
	if found = cmp.Or(found, err); found != nil {
		return found
	}
	for _, s := range restarts {
		if err := next(s); err != nil {
			return err
		}
	}
	return nil
}

// TestOmissions: each call that makes something durable is needed. It is left out everywhere, and something that was acknowledged is
// gone after a power cut, or a promise about the mark is broken. So one that is missing would be found.
func TestOmissions(t *testing.T) {
	red := map[string]string{}
	seen := map[string]bool{}
	for _, direct := range []bool{true, false} {
		l := newLife(rand.New(rand.NewPCG(1, 1)), faultfs.New())
		if !direct {
			l.fs.NoDirect()
		}
		var states []state
		l.fs.Inject(func(op *faultfs.Op) faultfs.Fault {
			if makesDurable(op) {
				seen[site(op)] = true
			}
			if op.Changes() {
				states = append(states, state{"killed at " + op.Kind.String() + " of " + op.Name, op.Kill(), l.known()})
			}
			return faultfs.Fault{}
		})
		must(t, l.claimsOf(script))
		must(t, l.claimsOf("as"))
		copied := state{"copied", faultfs.New(), l.known()}
		must(t, copyFiles(disk{copied.fs}, disk{l.fs}, "/"))
		for _, where := range slices.Sorted(maps.Keys(seen)) {
			if red[where] != "" || notForDurability[where] != "" {
				continue
			}
			if err := omit(where, direct, copied, states); err != nil {
				red[where] = strings.SplitN(err.Error(), "\n", 2)[0]
			}
		}
	}
	for _, where := range slices.Sorted(maps.Keys(seen)) {
		switch {
		case red[where] != "":
			t.Logf("%s: %s", where, red[where])
		case notForDurability[strings.TrimPrefix(where, "writeAt ")] == "":
			t.Errorf("%s: nobody misses it", where)
		}
	}
	for fn := range syncing(t) {
		called := slices.ContainsFunc(slices.Collect(maps.Keys(seen)), func(where string) bool { return strings.HasSuffix(" "+where, " "+fn) })
		if !called && notForDurability[fn] == "" {
			t.Errorf("%s makes something durable, and was never called", fn)
		}
	}
}

// helpers do what others decide.
var helpers = []string{"syncDir", "moveFile", "writeFile", "writeAt", "sync"}

// syncing returns the functions of this package that make something durable, read from the source.
func syncing(t *testing.T) map[string]bool {
	out := map[string]bool{}
	names, err := filepath.Glob("*.go")
	must(t, err)
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		must(t, err)
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || slices.Contains(helpers, fn.Name.Name) {
				continue
			}
			ast.Inspect(fn, func(n ast.Node) bool {
				if sel, ok := n.(*ast.SelectorExpr); ok && slices.Contains(append(helpers, "Sync", "Datasync"), sel.Sel.Name) {
					out[fn.Name.Name] = true
				}
				return true
			})
		}
	}
	return out
}

// TestMarkIsSyncedWithinASecond: the mark of a Save that is not followed by anything is durable soon.
func TestMarkIsSyncedWithinASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := faultfs.New()
		w, err := openLife(s)
		must(t, err)
		must(t, w.Save(hard(2, 1, 1), entries(2, 3, 2, 10)))
		must(t, w.Save(nil, entries(3, 4, 2, 10)))
		at := uint64(w.out.end())
		for range 2 {
			mark, m, err := disk{s.Crash(faultfs.Loss{})}.readMark(filepath.Join(lifeDir, markName), testID.Incarnation, new(tally))
			must(t, err)
			must(t, mark.f.Close())
			if m.offset == at {
				at = 0
			}
			time.Sleep(markInterval)
			synctest.Wait()
		}
		must(t, w.Close())
		if at != 0 {
			t.Error("the mark is not durable after a second")
		}
	})
}
