package filefence

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/baton-ha/baton/fence"
)

func token(epoch uint64) fence.Token { return fence.Token{Cluster: "jobs", Epoch: epoch, Holder: "a"} }

// memory is a directory in memory that knows which versions were real.
type memory struct {
	mu    sync.Mutex
	names map[string]*inode
	real  []head // in the order in which they were linked
	junk  int
}

type inode struct{ data []byte }

func (m *memory) headOf(name string) (head, bool) {
	n := m.names[name]
	if n == nil {
		return head{}, false
	}
	h, _, f, err := (&chain{files: &view{memory: &memory{names: map[string]*inode{name: n}}}}).read(numberOf(name))
	if err != nil {
		return head{}, false
	}
	f.Close()
	return h, true
}

// A view is the memory as one writer sees it. Step is called before each of its calls.
type view struct {
	*memory
	step func(call string)
	lost bool // answers of link are lost, and it is asked again
}

func (v *view) enter(call string) func() {
	if v.step != nil {
		v.step(call)
	}
	v.mu.Lock()
	return v.mu.Unlock
}

func (v *view) list() (names []string, _ error) {
	defer v.enter("list")()
	for name := range v.names {
		names = append(names, name)
	}
	return names, nil
}

func (v *view) create(name string) (draft, error) {
	defer v.enter("create")()
	v.names[name] = &inode{}
	return &handle{view: v, inode: v.names[name]}, nil
}

func (v *view) open(name string) (io.ReadCloser, error) {
	defer v.enter("open")()
	n := v.names[name]
	if n == nil {
		return nil, fs.ErrNotExist
	}
	return io.NopCloser(bytes.NewReader(bytes.Clone(n.data))), nil
}

func (v *view) link(from, to string) error {
	defer v.enter("link")()
	switch {
	case v.names[from] == nil:
		return fs.ErrNotExist
	case v.names[to] != nil:
		return fs.ErrExist
	}
	v.names[to] = v.names[from]
	h, _ := v.headOf(to)
	if before, ok := v.headOf(nameOf(h.number - 1)); h.number == 1 || ok && before.id == h.before {
		v.real = append(v.real, h)
	} else {
		v.junk++
	}
	if v.lost {
		return fs.ErrExist
	}
	return nil
}

func (v *view) remove(name string) error {
	defer v.enter("remove")()
	if v.names[name] == nil {
		return fs.ErrNotExist
	}
	delete(v.names, name)
	return nil
}

func (v *view) sync() error { defer v.enter("sync")(); return nil }

type handle struct {
	*view
	inode *inode
}

func (h *handle) Write(p []byte) (int, error) {
	defer h.enter("write")()
	h.inode.data = append(h.inode.data, p...)
	return len(p), nil
}

func (h *handle) WriteAt(p []byte, off int64) (int, error) {
	defer h.enter("write")()
	if need := int(off) + len(p); need > len(h.inode.data) {
		h.inode.data = append(h.inode.data, make([]byte, need-len(h.inode.data))...)
	}
	return copy(h.inode.data[off:], p), nil
}

func (h *handle) Sync() error  { return h.sync() }
func (h *handle) Close() error { return nil }

// A sleeper falls asleep before its n-th call, until it is woken.
type sleeper struct {
	n      int
	asleep chan struct{}
	wake   chan struct{}
}

func newSleeper(n int) *sleeper {
	return &sleeper{n: n, asleep: make(chan struct{}), wake: make(chan struct{})}
}

func (s *sleeper) step(string) {
	if s.n--; s.n == 0 {
		close(s.asleep)
		<-s.wake
	}
}

// An outcome is what a writer was told about one version.
type outcome struct {
	token fence.Token
	text  string
	err   error
}

// check compares what the writers were told with what was real.
func (m *memory) check(t *testing.T, outcomes []outcome) {
	t.Helper()
	added := map[string]bool{}
	for i, h := range m.real {
		added[h.id] = true
		if i > 0 && (h.token.Epoch < m.real[i-1].token.Epoch || h.number != m.real[i-1].number+1) {
			t.Errorf("%s as number %d after %s as number %d", h.token, h.number, m.real[i-1].token, m.real[i-1].number)
		}
	}
	for _, o := range outcomes {
		n := 0
		for _, h := range m.real {
			if h.sum == checksum(o.text) && h.size == int64(len(o.text)) {
				n++
			}
		}
		var stale *fence.StaleError
		switch {
		case o.err == nil && n != 1:
			t.Errorf("%s, which was added, is there %d times", o.text, n)
		case errors.Is(o.err, ErrUnknown) && n > 1:
			t.Errorf("%s is there %d times", o.text, n)
		case errors.As(o.err, &stale) && !errors.Is(o.err, ErrUnknown) && n != 0:
			t.Errorf("%s, which was refused, is there %d times", o.text, n)
		case o.err != nil && !errors.Is(o.err, ErrUnknown) && !errors.As(o.err, &stale):
			t.Errorf("%s: %v", o.text, o.err)
		}
	}
}

func checksum(text string) uint32 { return crc32.Checksum([]byte(text), castagnoli) }

var sleepAll = flag.Bool("sleep.all", false, "TestSleepers lets the second writer fall asleep before each of its calls, too")

// A writer is put to sleep before each of its calls; meanwhile a newer one replaces the file so and so often, and falls asleep
// itself in the next replacement, in which the first one wakes. Also with answers that are lost, and for a journal that is
// trimmed.
func TestSleepers(t *testing.T) {
	old, junk, unknown := 0, 0, 0
	run := func(lost, trimmed bool, first, times, second int) {
		m := sleepers(t, lost, trimmed, first, times, second, &unknown)
		junk += m.junk
		if m.real[len(m.real)-1].token == token(2) {
			old++
		}
		if t.Failed() {
			t.Fatalf("lost %v, trimmed %v, asleep before call %d, %d times, asleep before call %d", lost, trimmed, first, times, second)
		}
	}
	manyTimes, stride := []int{0, 1, 9}, 7
	if *sleepAll {
		manyTimes, stride = []int{0, 1, 2, 6, 7, 8, 9, 10, 12}, 1
	}
	for _, lost := range []bool{false, true} {
		for first := 1; first < 25; first++ {
			for _, times := range manyTimes {
				for second := 1; second < 25; second += stride {
					run(lost, false, first, times, second)
				}
			}
		}
		for first := 6; first < 12; first++ { // around its link
			for second := 1; second < 60; second++ {
				run(lost, true, first, 9, second)
			}
		}
	}
	if junk == 0 || unknown == 0 || old == 0 {
		t.Errorf("%d late links found a free number, %d outcomes were unknown: this test shows nothing", junk, unknown)
	}
}

func sleepers(t *testing.T, lost, trimmed bool, first, times, second int, unknown *int) *memory {
	m := &memory{names: map[string]*inode{}}
	var mu sync.Mutex
	var outcomes []outcome
	write := func(f *File, tok fence.Token, text string, last bool) {
		var err error
		if trimmed {
			var v Version
			j := &Journal{f.chain}
			if v, err = j.Append(t.Context(), tok, []byte(text)); err == nil && last {
				_ = j.Trim(t.Context(), tok, v.Number)
			}
		} else {
			_, err = f.Replace(t.Context(), tok, strings.NewReader(text))
		}
		mu.Lock()
		defer mu.Unlock()
		outcomes = append(outcomes, outcome{tok, text, err})
		if errors.Is(err, ErrUnknown) {
			*unknown++
		}
	}
	fileOf := func(step func(string)) *File {
		return &File{&chain{files: &view{memory: m, step: step, lost: lost}, turn: make(chan struct{}, 1)}}
	}
	write(fileOf(nil), token(1), "begin", false)
	var wg sync.WaitGroup
	run := func(s *sleeper, epoch uint64, times int) (woken func()) {
		f := fileOf(nil)
		for i := range times {
			write(f, token(epoch), fmt.Sprintf("%d of %d", i, epoch), false)
		}
		f.files.(*view).step = s.step
		ended := make(chan struct{})
		wg.Go(func() {
			write(f, token(epoch), fmt.Sprintf("last of %d", epoch), true)
			close(ended)
		})
		select {
		case <-s.asleep:
		case <-ended:
		}
		return func() { close(s.wake); <-ended }
	}
	wake1 := run(newSleeper(first), 1, 3)
	wake2 := run(newSleeper(second), 2, times)
	wake1()
	wake2()
	wg.Wait()
	m.check(t, outcomes)

	reader := fileOf(nil)
	newest := m.real[len(m.real)-1]
	if tok, err := reader.Token(t.Context()); err != nil || tok != newest.token {
		t.Errorf("the newest token is %s, %v, not %s", tok, err, newest.token)
	}
	if trimmed {
		last := Record{}
		for r, err := range (&Journal{reader.chain}).Records(t.Context(), 0) {
			if err != nil || r.Number <= last.Number || r.Token.Epoch < last.Token.Epoch {
				t.Errorf("%v, %v after %v", r, err, last)
			}
			if h := m.real[r.Number-1]; err == nil && h.sum != checksum(string(r.Data)) {
				t.Errorf("%q is number %d", r.Data, r.Number)
			}
			last = r
		}
		if last.Number != newest.content {
			t.Errorf("the last record is %d, not %d", last.Number, newest.content)
		}
		return m
	}
	r, err := reader.Open(t.Context())
	if err != nil {
		t.Error(err)
		return m
	}
	if text, err := io.ReadAll(r); err != nil || r.Number != newest.content {
		t.Errorf("number %d, %q, %v", r.Number, text, err)
	}
	return m
}

// A reader falls asleep before each of its calls, and wakes when its version was replaced and removed, and a late writer has linked
// another one there.
func TestSleepingReader(t *testing.T) {
	for n := 1; ; n++ {
		m := &memory{names: map[string]*inode{}}
		fileOf := func(step func(string)) *File {
			return &File{&chain{files: &view{memory: m, step: step}, turn: make(chan struct{}, 1)}}
		}
		writer := fileOf(nil)
		for range 3 {
			if err := replace(t, writer, 1, "first"); err != nil {
				t.Fatal(err)
			}
		}
		at := writer.latest()
		s := newSleeper(n)
		reader, got, ended := fileOf(s.step), "", make(chan struct{})
		go func() {
			defer close(ended)
			var err error
			if got, _, err = content(t, reader); err != nil {
				t.Error(err)
			}
		}()
		select {
		case <-ended:
			if n < 5 {
				t.Errorf("the reader ended after %d calls: this test shows nothing", n-1)
			}
			return
		case <-s.asleep:
		}
		for range keep + 2 {
			if err := replace(t, writer, 2, "second"); err != nil {
				t.Fatal(err)
			}
		}
		late(t, writer, at)
		close(s.wake)
		<-ended
		if got != "first" && got != "second" {
			t.Errorf("asleep before call %d the reader got %q", n, got)
		}
	}
}

// late links a version in the place of one that was removed.
func late(t *testing.T, f *File, at head) {
	t.Helper()
	d, err := f.newPending(token(1), strings.NewReader("late"))
	if err == nil {
		err = d.follow(head{number: at.number - 1, id: at.before})
	}
	if err == nil {
		err = f.files.link(d.name, nameOf(at.number))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// shortList leaves out names, once.
type shortList struct {
	*view
	highest string
}

func (s *shortList) list() ([]string, error) {
	names, err := s.view.list()
	names = slices.DeleteFunc(names, func(name string) bool { return s.highest != "" && name > s.highest })
	s.highest = ""
	return names, err
}

// A list of names that leaves out what came while it was made shows what was late as the highest.
func TestShortList(t *testing.T) {
	v := &view{memory: &memory{names: map[string]*inode{}}}
	writer := &File{&chain{files: v, turn: make(chan struct{}, 1)}}
	var at head
	for i := range 3 * keep {
		if err := replace(t, writer, 2, "in time"); err != nil {
			t.Fatal(err)
		}
		if i == keep {
			at = writer.latest()
		}
	}
	late(t, writer, at)
	if text, _, err := content(t, &File{&chain{files: &shortList{v, nameOf(at.number)}, turn: make(chan struct{}, 1)}}); err != nil || text != "in time" {
		t.Errorf("the content is %q, %v", text, err)
	}
}

// A record that was linked late, right below the first one that is left, is not read.
func TestLateRecord(t *testing.T) {
	j := &Journal{&chain{files: &view{memory: &memory{names: map[string]*inode{}}}, turn: make(chan struct{}, 1)}}
	var at head
	for i := range 10 {
		if _, err := j.Append(t.Context(), token(1), []byte("in time")); err != nil {
			t.Fatal(err)
		}
		if i == 5 {
			at = j.latest()
		}
	}
	if err := j.Trim(t.Context(), token(2), at.number+1); err != nil {
		t.Fatal(err)
	}
	late(t, &File{j.chain}, at)
	list, err := records(t, j, 0)
	if err != nil || len(list) != 4 || list[0].Number != at.number+1 {
		t.Errorf("%v, %v", list, err)
	}
}

// A version that was removed by hand, or by another program.
func TestMissing(t *testing.T) {
	m := &memory{names: map[string]*inode{}}
	f := &File{&chain{files: &view{memory: m}, turn: make(chan struct{}, 1)}}
	for range 5 {
		if _, err := f.Replace(t.Context(), token(1), strings.NewReader("x")); err != nil {
			t.Fatal(err)
		}
	}
	delete(m.names, nameOf(5))
	ctx, cancel := context.WithCancel(t.Context())
	seen := 0
	again := &File{&chain{files: &view{memory: m, step: func(string) {
		if seen++; seen == 20 {
			cancel()
		}
	}}, turn: make(chan struct{}, 1)}}
	if _, err := again.Replace(ctx, token(2), strings.NewReader("x")); !errors.Is(err, context.Canceled) {
		t.Errorf("the newest has none before it: %v", err)
	}
}
