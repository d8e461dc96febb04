package fence

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// A MemoryStore is a [Store] that forgets everything when the process ends. It is enough where the
// resource itself dies with the process, and for tests. The zero value is ready.
type MemoryStore struct {
	mu    sync.Mutex // guards known
	known Token
}

// Raise implements [Store].
func (s *MemoryStore) Raise(_ context.Context, t Token) (Token, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if Check(t, s.known) == nil {
		s.known = t
	}
	return s.known, nil
}

// ErrStoreInUse is returned, wrapped, by [OpenFileStore] when another FileStore has the file.
var ErrStoreInUse = errors.New("fence: the store is in use")

// ErrStoreDamaged is returned, wrapped, by [OpenFileStore] when the file is not what a FileStore wrote.
// The highest token is not known then: write the one that the cluster has now, in the text form, with
// [ResetFileStore].
var ErrStoreDamaged = errors.New("fence: the store is damaged")

// A FileStore is a [Store] in a file on a local disk. A new token takes one write of a small file beside
// it, two syncs and a rename; a token that is known takes no I/O. The file must not be lost, nor put
// back from an older copy, while work of older tokens can still come.
//
// The file has one line: the token's text form, a space, and the CRC-32C of the text form as eight hex
// digits. While it is open "NAME.lock" is locked by flock (on Windows: opened without sharing), so that
// no second process takes the file. That lock is of the host: a FileStore does not belong on a network
// file system.
type FileStore struct {
	path string
	lock *os.File

	mu    sync.Mutex // guards what follows, and the file
	known Token
	err   error // why the store can no longer be trusted, or os.ErrClosed
}

// OpenFileStore opens the store in a file, which need not exist yet; its directory must. The errors are
// those of the file system, or wrap [ErrStoreInUse] or [ErrStoreDamaged].
func OpenFileStore(path string) (*FileStore, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open token store: %w", err)
	}
	lock, err := lockFile(path + ".lock")
	if err != nil {
		return nil, fmt.Errorf("open token store %s: %w", path, err)
	}
	s := &FileStore{path: path, lock: lock}
	if s.known, err = readToken(path); err != nil {
		lock.Close()
		return nil, fmt.Errorf("open token store %s: %w", path, err)
	}
	return s, nil
}

// ResetFileStore writes a token into a store that is not open, whatever it holds: after damage, or to
// give a resource to another cluster. Errors as of [OpenFileStore].
func ResetFileStore(path string, t Token) error {
	if !t.Valid() {
		return Check(t, Token{})
	}
	lock, err := lockFile(path + ".lock")
	if err != nil {
		return fmt.Errorf("reset token store %s: %w", path, err)
	}
	defer lock.Close()
	return writeToken(path, t)
}

// Raise implements [Store]. It blocks on the disk, and not longer for ctx. After an error of the disk the
// store refuses everything until it is opened anew, because what a failed sync left behind is not known.
func (s *FileStore) Raise(_ context.Context, t Token) (Token, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return Token{}, s.err
	}
	if t == s.known || Check(t, s.known) != nil {
		return s.known, nil
	}
	if err := writeToken(s.path, t); err != nil {
		s.err = err
		return Token{}, err
	}
	s.known = t
	return t, nil
}

// Close lets go of the file. It waits for a Raise that is under way. Later calls return nil.
func (s *FileStore) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if errors.Is(s.err, os.ErrClosed) {
		return nil
	}
	s.err = fmt.Errorf("token store %s: %w", s.path, os.ErrClosed)
	return s.lock.Close()
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// readToken returns the token in a file; the zero Token if there is no file.
func readToken(path string) (t Token, err error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Token{}, nil
	}
	if err != nil {
		return Token{}, err
	}
	text, _, _ := strings.Cut(string(b), " ")
	if t, err = Parse(text); err != nil || string(b) != tokenLine(t) {
		return Token{}, fmt.Errorf("%w: it has %d bytes and no token with its checksum", ErrStoreDamaged, len(b))
	}
	return t, nil
}

func tokenLine(t Token) string {
	text := t.String()
	return fmt.Sprintf("%s %08x\n", text, crc32.Checksum([]byte(text), castagnoli))
}

// writeToken replaces the file; on nil it survives a power cut.
func writeToken(path string, t Token) (err error) {
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(tokenLine(t))
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	return err
}
