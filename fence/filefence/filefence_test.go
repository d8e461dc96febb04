package filefence

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/baton-ha/baton/fence"
)

func newFile(t testing.TB, dir string) *File {
	t.Helper()
	f, err := NewFile(dir)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func newJournal(t testing.TB, dir string) *Journal {
	t.Helper()
	j, err := NewJournal(dir)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func replace(t testing.TB, f *File, epoch uint64, text string) error {
	_, err := f.Replace(t.Context(), token(epoch), strings.NewReader(text))
	return err
}

func content(t testing.TB, f *File) (string, Version, error) {
	r, err := f.Open(t.Context())
	if err != nil {
		return "", Version{}, err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	return string(b), r.Version, err
}

func records(t testing.TB, j *Journal, from uint64) (list []Record, err error) {
	for r, err := range j.Records(t.Context(), from) {
		if err != nil {
			return list, err
		}
		list = append(list, r)
	}
	return list, nil
}

func TestFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	f := newFile(t, dir)
	if tok, err := f.Token(t.Context()); err != nil || tok != (fence.Token{}) {
		t.Errorf("the token of an empty directory: %v, %v", tok, err)
	}
	if _, _, err := content(t, f); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the content of an empty directory: %v", err)
	}
	for i, epoch := range []uint64{1, 1, 7} {
		if err := replace(t, f, epoch, fmt.Sprint("text ", i)); err != nil {
			t.Fatal(err)
		}
	}
	again := newFile(t, dir) // another process, or the same after a restart
	var stale *fence.StaleError
	var foreign *fence.ForeignError
	if err := replace(t, again, 6, "late"); !errors.As(err, &stale) || stale.Known != token(7) {
		t.Errorf("a lower token: %v", err)
	}
	if _, err := again.Replace(t.Context(), fence.Token{Cluster: "jobs", Epoch: 7, Holder: "b"}, new(bytes.Buffer)); !errors.As(err, &stale) {
		t.Errorf("a second holder of an epoch: %v", err)
	}
	if _, err := again.Replace(t.Context(), fence.Token{Cluster: "work", Epoch: 9, Holder: "a"}, new(bytes.Buffer)); !errors.As(err, &foreign) {
		t.Errorf("another cluster: %v", err)
	}
	if _, err := again.Replace(t.Context(), fence.Token{}, new(bytes.Buffer)); !errors.Is(err, fence.ErrInvalid) {
		t.Errorf("no token: %v", err)
	}
	broken := io.MultiReader(strings.NewReader("half"), readerFunc(func([]byte) (int, error) { return 0, os.ErrDeadlineExceeded }))
	if _, err := again.Replace(t.Context(), token(7), broken); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("content that breaks off: %v", err)
	}
	for _, epoch := range []uint64{7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18} { // so many that the content would be removed
		if known, err := f.Raise(t.Context(), token(epoch)); err != nil || known != token(epoch) {
			t.Errorf("Raise: %v, %v", known, err)
		}
	}
	if known, err := f.Raise(t.Context(), token(17)); err != nil || known != token(18) {
		t.Errorf("Raise to a lower token: %v, %v", known, err)
	}
	if known, err := f.Raise(t.Context(), fence.Token{Cluster: "work", Epoch: 99, Holder: "a"}); err != nil || known != token(18) {
		t.Errorf("Raise to a token of another cluster: %v, %v", known, err)
	}
	if err := replace(t, f, 17, "late"); !errors.As(err, &stale) {
		t.Errorf("a lower token than the one that was raised: %v", err)
	}
	if text, v, err := content(t, again); err != nil || text != "text 2" || v.Token != token(7) || v.Size != 6 {
		t.Errorf("content %q, %v, %v", text, v, err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	f.turn <- struct{}{} // somebody else writes
	if _, err := f.Replace(over, token(18), new(bytes.Buffer)); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that is over: %v", err)
	}
	<-f.turn
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// Old versions, and what dead writers have left, are removed.
func TestFilePrunes(t *testing.T) {
	dir := t.TempDir()
	f := newFile(t, dir)
	left, ours := filepath.Join(dir, draftName(6, "left")), filepath.Join(dir, draftName(7, "other"))
	for _, name := range []string{left, ours} {
		if err := os.WriteFile(name, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	large := strings.Repeat("0123456789", 100000)
	for range 30 {
		if err := replace(t, f, 7, large); err != nil {
			t.Fatal(err)
		}
	}
	names, err := f.files.list()
	if err != nil || len(names) != 1+keep+1 {
		t.Errorf("%v, %v", names, err)
	}
	if _, err := os.Stat(ours); err != nil {
		t.Errorf("a draft of the same token: %v", err)
	}
	if text, _, err := content(t, newFile(t, dir)); err != nil || text != large {
		t.Errorf("%d bytes, %v", len(text), err)
	}
}

func TestJournal(t *testing.T) {
	dir := t.TempDir()
	j := newJournal(t, dir)
	var numbers []uint64
	for i := range uint64(20) {
		v, err := j.Append(t.Context(), token(1+i/10), []byte{byte(i)})
		if err != nil {
			t.Fatal(err)
		}
		numbers = append(numbers, v.Number)
	}
	j = newJournal(t, dir)
	if known, err := j.Raise(t.Context(), token(3)); err != nil || known != token(3) {
		t.Error(known, err)
	}
	var stale *fence.StaleError
	if _, err := j.Append(t.Context(), token(2), nil); !errors.As(err, &stale) {
		t.Errorf("a lower token: %v", err)
	}
	if err := j.Trim(t.Context(), token(2), 5); !errors.As(err, &stale) {
		t.Errorf("Trim with a lower token: %v", err)
	}
	expect := func(from uint64, first int) {
		t.Helper()
		list, err := records(t, j, from)
		if err != nil || len(list) != 20-first {
			t.Fatalf("%d records from number %d on, %v", len(list), from, err)
		}
		for i, r := range list {
			if i += first; r.Number != numbers[i] || r.Token != token(1+uint64(i)/10) || !bytes.Equal(r.Data, []byte{byte(i)}) || r.Size != 1 {
				t.Errorf("record %d is %v", i, r)
			}
		}
	}
	expect(0, 0)
	expect(numbers[5], 5)
	if err := j.Trim(t.Context(), token(3), numbers[7]); err != nil {
		t.Fatal(err)
	}
	expect(0, 7)
	expect(numbers[7], 7)
	if list, err := records(t, j, numbers[6]); len(list) > 0 || !errors.Is(err, ErrTrimmed) {
		t.Errorf("from a record on that was trimmed: %v, %v", list, err)
	}
	if err := j.Trim(t.Context(), token(3), 1<<60); err != nil {
		t.Fatal(err)
	}
	expect(0, 19)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range j.Records(over, 0) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("a context that is over: %v", err)
		}
	}
}

// Each byte of a version is flipped, and each length is tried: it is noticed, and nothing is written behind it.
func TestDamage(t *testing.T) {
	dir := t.TempDir()
	f := newFile(t, dir)
	if err := replace(t, f, 7, "text"); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, nameOf(2))
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	try := func(b []byte, what string, inHead bool) {
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		f := newFile(t, dir)
		if _, _, err := content(t, f); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: Open: %v", what, err)
		}
		if _, err := records(t, &Journal{f.chain}, 0); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: Records: %v", what, err)
		}
		if _, err := f.Raise(t.Context(), token(8)); inHead && !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: Raise: %v", what, err)
		} else if !inHead {
			_ = os.Remove(filepath.Join(dir, nameOf(3)))
		}
	}
	line := bytes.IndexByte(whole, '\n') + 1
	for i := range whole {
		b := bytes.Clone(whole)
		b[i] ^= 1 << rand.IntN(8)
		try(b, fmt.Sprintf("byte %d flipped to %q", i, b[i]), i < line)
		try(whole[:i], fmt.Sprintf("%d bytes left", i), i < line)
	}
}

var raceTimes = flag.Int("race.times", 2000, "how often the writers of TestRace write")

// Two writers race, each with a chain of its own, as in two processes: the order of tokens never goes back.
func TestRace(t *testing.T) {
	dir := t.TempDir()
	var newest, done, unknown atomic.Uint64
	var wg sync.WaitGroup
	for range 2 {
		j := newJournal(t, dir)
		j.files = unsynced{directory(dir)}
		wg.Go(func() {
			epoch := newest.Add(1)
			for range *raceTimes / 2 {
				if rand.IntN(10) == 0 {
					epoch = newest.Add(1)
				}
				_, err := j.Append(t.Context(), token(epoch), strconv.AppendUint(nil, epoch, 10))
				var stale *fence.StaleError
				switch {
				case err == nil:
					done.Add(1)
				case errors.Is(err, ErrUnknown):
					unknown.Add(1)
				case !errors.As(err, &stale):
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	list, err := records(t, newJournal(t, dir), 0)
	if n := uint64(len(list)); err != nil || n < done.Load() || n > done.Load()+unknown.Load() || done.Load() == 0 {
		t.Errorf("%d records, %d were added, of %d it is not known, %v", n, done.Load(), unknown.Load(), err)
	}
	last := uint64(0)
	for _, r := range list {
		if r.Token.Epoch < last || string(r.Data) != fmt.Sprint(r.Token.Epoch) {
			t.Errorf("%s with %s after epoch %d", r.Token, r.Data, last)
		}
		last = r.Token.Epoch
	}
}

// unsynced is a directory that does not wait for the disk.
type unsynced struct{ directory }

type unsyncedDraft struct{ draft }

func (d unsynced) sync() error { return nil }

func (d unsynced) create(name string) (draft, error) {
	f, err := d.directory.create(name)
	return unsyncedDraft{f}, err
}

func (unsyncedDraft) Sync() error { return nil }
