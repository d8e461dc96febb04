package storage

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/baton-ha/baton/internal/vfs"
)

// slowIdentity is a disk that does not get the identity written until it is let.
type slowIdentity struct {
	vfs.FS
	begun chan struct{}
	until chan struct{}
}

func (s *slowIdentity) OpenFile(name string, flag int, perm os.FileMode) (vfs.File, error) {
	f, err := s.FS.OpenFile(name, flag, perm)
	if s.until == nil || err != nil || filepath.Base(name) != identityName+".tmp" {
		return f, err
	}
	return slowFile{f, s}, nil
}

type slowFile struct {
	vfs.File
	s *slowIdentity
}

func (f slowFile) Sync() error {
	close(f.s.begun)
	<-f.s.until
	return f.File.Sync()
}

// TestMeetAgain: a member that was met before does not wait for the disk, also while the first meeting of another one does.
func TestMeetAgain(t *testing.T) {
	slow := &slowIdentity{FS: vfs.OS}
	options := testOptions()
	options.FS = slow
	w, err := Open(filepath.Join(t.TempDir(), "m"), options)
	must(t, err)
	defer w.Close()
	must(t, w.Meet("b", 5))
	slow.begun, slow.until = make(chan struct{}), make(chan struct{})
	met := make(chan error, 1)
	go func() { met <- w.Meet("c", 6) }()
	<-slow.begun
	again := make(chan error, 2)
	go func() {
		again <- w.Meet("b", 5)
		again <- w.Meet("b", 9)
	}()
	for _, stranger := range []bool{false, true} {
		select {
		case err := <-again:
			if stranger != errors.As(err, new(*StrangerError)) {
				t.Errorf("b is a stranger: %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Error("a member that was met before waits for the disk")
		}
	}
	close(slow.until)
	must(t, <-met)
	slow.until = nil
}
