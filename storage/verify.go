package storage

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/baton-ha/baton/internal/vfs"
)

// Damage is a range of bytes of a file that are not what was written there.
type Damage struct {
	File     string
	From, To int64  // To is behind the last byte. They are the same where something is missing, and 0 for a whole file
	What     string // in words
}

// String returns file, range and what it is.
func (d Damage) String() string {
	switch {
	case d.To == 0:
		return fmt.Sprintf("%s: %s", d.File, d.What)
	case d.To == d.From:
		return fmt.Sprintf("%s: at byte %d: %s", d.File, d.From, d.What)
	}
	return fmt.Sprintf("%s: bytes %d to %d: %s", d.File, d.From, d.To-1, d.What)
}

// Report is what [Verify] has found.
type Report struct {
	Identity Identity // whose directory it is; zero if that cannot be read
	Files    int      // that were read
	Bytes    int64    // in them
	// Damages are the bad ranges, by file and place. A checksum over much tells only that something in it is bad; What says so.
	Damages []Damage
	// Unfinished are ranges as a crash may leave them, and that nothing shows to have been durable: Open takes them
	// away. Damage to the very last write before a power cut looks the same.
	Unfinished []Damage
	// Start is the error with which Open would fail now, nil if a member could start. It may start with damages: in a
	// snapshot that is not needed, or in old parts of the log that it would find when somebody reads them.
	Start error
}

// Progress says how far [Verify] has come.
type Progress struct {
	File        string // that is being read
	Done, Total int64  // bytes of all files, the log twice: it is read once more as a start would
}

// Verify reads everything in a member's directory and names what is damaged: each record of the log, also behind damage,
// each snapshot, the mark, the identity. What a checksum does not cover, and what a start does not look at, it cannot tell:
// the space behind the end of the log, files that are left over, and what is overwritten by an older copy that is right in itself. It
// writes nothing. No member may have the directory open meanwhile: the error is ErrLocked. progress, which may be nil, is told
// about each file and each MiB, by the same goroutine; ctx ends it. Other errors are ErrForeign, one that matches fs.ErrNotExist
// where there is no member, and those of the system, after which nothing is known about what was not read.
func Verify(ctx context.Context, dir string, progress func(Progress)) (*Report, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("storage: %w", err)
	}
	return disk{vfs.OS}.verify(ctx, dir, progress)
}

func (d disk) verify(ctx context.Context, dir string, progress func(Progress)) (*Report, error) {
	lock, err := d.lockToRead(dir)
	if err != nil {
		return nil, err
	}
	if lock != nil {
		defer lock.Close()
	}
	v := &verification{ctx: ctx, dir: dir, disk: disk{&readOnly{FS: d.FS, ctx: ctx}}, progress: progress}
	if err := v.run(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil { // what was read since is not to be believed
		return nil, fmt.Errorf("storage: verify %s: %w", dir, err)
	}
	return &v.report, nil
}

// verification is one run of Verify.
type verification struct {
	ctx      context.Context // of the one call
	disk     disk
	dir      string
	progress func(Progress)
	at       Progress
	report   Report
	id       Identity   // as the identity says, or else the log; zero: not known
	mark     *markState // nil: not known
}

func (v *verification) damage(file string, from, to int64, format string, args ...any) {
	v.report.Damages = append(v.report.Damages, Damage{file, from, to, fmt.Sprintf(format, args...)})
}

func (v *verification) unfinished(file string, from, to int64, format string, args ...any) {
	v.report.Unfinished = append(v.report.Unfinished, Damage{file, from, to, fmt.Sprintf(format, args...)})
}

// begin begins with a file.
func (v *verification) begin(name string) { v.read(name, 0) }

// read notes that n more bytes of a file were dealt with.
func (v *verification) read(name string, n int64) {
	v.at.File, v.at.Done = name, min(v.at.Done+n, v.at.Total)
	if v.progress != nil {
		v.progress(v.at)
	}
}

func (v *verification) run() error {
	identity, mark := filepath.Join(v.dir, identityName), filepath.Join(v.dir, markName)
	names := []string{identity, mark}
	snaps, err := v.list(snapName, func(name string) bool { return strings.HasSuffix(name, snapExt) })
	if err != nil {
		return err
	}
	segs, err := v.list(walName, func(name string) bool { _, _, ok := parseSegmentName(name); return ok })
	if err != nil {
		return err
	}
	sizes := map[string]int64{}
	for _, name := range slices.Concat(names, snaps, segs) {
		fi, err := v.disk.Stat(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it is told with the rest
		}
		if err != nil {
			return fmt.Errorf("storage: %w", err)
		}
		sizes[name] = fi.Size()
		v.at.Total += fi.Size()
		v.report.Files++
	}
	v.report.Bytes = v.at.Total
	for _, name := range segs {
		v.at.Total += sizes[name] // a start reads the log once more
	}
	for _, file := range []struct {
		names  []string
		verify func(name string, size int64) error
	}{{[]string{identity}, v.identity}, {[]string{mark}, v.marks}, {snaps, v.snapshot}} {
		for _, name := range file.names {
			v.begin(name)
			done := v.at.Done
			if err := file.verify(name, sizes[name]); err != nil {
				return err
			}
			v.read(name, done+sizes[name]-v.at.Done)
		}
	}
	if err := v.log(); err != nil {
		return err
	}
	v.start()
	slices.SortStableFunc(v.report.Damages, func(a, b Damage) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.From, b.From))
	})
	v.at.Done = v.at.Total
	v.read("", 0)
	return nil
}

// list returns the files in a directory of the member's that are ours.
func (v *verification) list(dir string, ours func(string) bool) (out []string, err error) {
	dir = filepath.Join(v.dir, dir)
	names, err := v.disk.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		v.damage(dir, 0, 0, "the directory is missing")
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("storage: %w", err)
	}
	for _, e := range names {
		if ours(e.Name()) {
			out = append(out, filepath.Join(dir, e.Name()))
		}
	}
	return out, nil
}

// take makes a damage of an error that says that a file is bad, from its offset on to the end of what is meant.
func (v *verification) take(err error, to int64) error {
	var ce *CorruptError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &ce) && errors.Is(err, fs.ErrNotExist):
		v.damage(ce.File, 0, 0, "the file is missing")
	case errors.As(err, &ce):
		v.damage(ce.File, ce.Offset, max(ce.Offset, to), "%v", ce.Err)
	default:
		return err
	}
	return nil
}

func (v *verification) identity(name string, size int64) error {
	body, err := v.disk.readIdentity(v.dir)
	if err != nil {
		return v.take(err, size)
	}
	v.report.Identity, v.id = body.Identity, body.Identity
	return nil
}

// marks verifies the slots of the mark, and each of their copies.
func (v *verification) marks(name string, size int64) error {
	b, err := v.disk.readFile(name)
	if err != nil {
		return v.take(fileError(name, 0, err), 0)
	}
	if len(b) != markSize {
		v.damage(name, min(size, markSize), max(size, markSize), "the file has %d bytes, and should have %d", size, markSize)
	}
	b = append(b, make([]byte, max(0, markSize-len(b)))...)
	const unused = "nothing is ever written here, and it is not zero; nothing rests on it"
	newest, blank := uint64(0), int64(-1)
	for slot := int64(0); slot < markSize; slot += markSlot {
		var bad []int64
		var counts []uint64
		for _, at := range []int64{slot, slot + markCopy} {
			incarnation := v.id.Incarnation
			if incarnation == 0 { // nothing tells which it should be
				incarnation = binary.LittleEndian.Uint64(b[at+16:])
			}
			m, n, ok := decodeMark(b[at:], incarnation)
			if ok = ok && int64(n%2)*markSlot == slot; !ok {
				bad = append(bad, at)
				continue
			}
			if counts = append(counts, n); n > newest {
				newest, v.mark = n, &m
			}
		}
		for _, free := range []extent{{slot + markBytes, slot + markCopy}, {slot + markCopy + markBytes, slot + markSlot}} {
			if !zero(b[free.from:free.to]) {
				v.damage(name, free.from, free.to, unused)
			}
		}
		switch {
		case len(bad) == 2 && zero(b[slot:slot+markSlot]):
			blank = slot
		case len(bad) == 2:
			v.damage(name, slot, slot+markCopy+markBytes, "neither copy of the mark in this slot can be read")
		case len(bad) == 1:
			v.unfinished(name, bad[0], bad[0]+markBytes, "this copy of the mark cannot be read, and the other one can")
		case counts[0] != counts[1]:
			v.unfinished(name, slot, slot+markCopy+markBytes, "one of the two copies of the mark in this slot is older than the other")
		}
	}
	if blank >= 0 && newest != 1 { // else the creation wrote no second slot, once
		v.damage(name, blank, blank+markCopy+markBytes, "this slot of the mark is empty")
	}
	return nil
}

func (v *verification) snapshot(name string, size int64) error {
	base, _ := strings.CutSuffix(filepath.Base(name), snapExt)
	index, term, ok := parseSegmentName(base + ".wal")
	if !ok {
		v.damage(name, 0, 0, "this is no name of a snapshot")
		return nil
	}
	_, err := v.disk.verifySnapshotFile(name, snapID{index, term})
	var ce *CorruptError
	if errors.As(err, &ce) && !unread(err) {
		ce = &CorruptError{File: name, Err: fmt.Errorf("%w; one checksum covers all of a body", ce.Err)}
		err = ce
	}
	return v.take(err, size)
}

// start finds out whether a member could start.
func (v *verification) start() {
	var name string
	var unsaid int64
	watched := disk{&readOnly{FS: v.disk.FS, ctx: v.ctx, read: func(file string, n int) {
		if file != name || unsaid >= 1<<20 {
			v.read(file, unsaid)
			name, unsaid = file, 0
		}
		unsaid += int64(n)
	}}}
	w := &WAL{disk: watched, dir: v.dir, logger: slog.New(slog.DiscardHandler)}
	r, err := w.read()
	if w.mark != nil {
		w.mark.f.Close()
	}
	if err == nil && r.sc.torn == nil {
		err = w.checkAgain(r.sc.segs, idOf(r.snap))
	}
	v.report.Start = err
	var ce *CorruptError
	named := func(d Damage) bool { return d.File == ce.File }
	if errors.As(err, &ce) && !slices.ContainsFunc(v.report.Damages, named) { // it is about what files say together
		v.damage(ce.File, ce.Offset, ce.Offset, "%v", ce.Err)
	}
}

// readOnly is a file system of which nothing is changed, and nothing read once ctx is over.
type readOnly struct {
	vfs.FS
	ctx  context.Context              // of one call of Verify, which is all that this lives for
	read func(file string, bytes int) // is told what is read of segments; may be nil
}

// OpenFile implements [vfs.FS].
func (r *readOnly) OpenFile(name string, flag int, _ fs.FileMode) (vfs.File, error) {
	if err := r.ctx.Err(); err != nil {
		return nil, err
	}
	if flag&os.O_CREATE != 0 {
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.EROFS}
	}
	f, err := r.FS.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	if _, _, ok := parseSegmentName(filepath.Base(name)); !ok {
		return readOnlyFile{File: f, ctx: r.ctx}, nil
	}
	return readOnlyFile{f, r.ctx, name, r.read}, nil
}

// Mkdir implements [vfs.FS].
func (r *readOnly) Mkdir(name string, _ fs.FileMode) error {
	return &fs.PathError{Op: "mkdir", Path: name, Err: syscall.EROFS}
}

// Rename implements [vfs.FS].
func (r *readOnly) Rename(from, to string) error {
	return &os.LinkError{Op: "rename", Old: from, New: to, Err: syscall.EROFS}
}

// Remove implements [vfs.FS].
func (r *readOnly) Remove(name string) error {
	return &fs.PathError{Op: "remove", Path: name, Err: syscall.EROFS}
}

type readOnlyFile struct {
	vfs.File
	ctx  context.Context
	name string
	read func(file string, bytes int)
}

// ReadAt implements [vfs.File].
func (f readOnlyFile) ReadAt(b []byte, off int64) (int, error) {
	if err := f.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := f.File.ReadAt(b, off)
	if f.read != nil {
		f.read(f.name, n)
	}
	return n, err
}
