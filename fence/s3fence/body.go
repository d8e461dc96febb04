package s3fence

import (
	"errors"
	"io"
)

// A section is the part of a body that begins at an offset, for who wants to begin anew. The zero section is empty.
type section struct {
	body        io.ReadSeeker
	start, size int64
	at          int64
	err         error // of a read
}

func newSection(body io.ReadSeeker, start, size int64) (*section, error) {
	s := &section{body: body, start: start, size: size}
	_, err := s.Seek(0, io.SeekStart)
	return s, err
}

func (s *section) Read(p []byte) (int, error) {
	if s.at >= s.size {
		return 0, io.EOF
	}
	n, err := s.body.Read(p[:min(int64(len(p)), s.size-s.at)])
	s.at += int64(n)
	if err == io.EOF && s.at < s.size {
		err = io.ErrUnexpectedEOF // it has become shorter
	}
	if err != io.EOF {
		s.err = err
	}
	return n, err
}

func (s *section) Seek(offset int64, whence int) (int64, error) {
	at, err := place(s.at, s.size, offset, whence)
	if err == nil && s.body != nil {
		_, err = s.body.Seek(s.start+min(at, s.size), io.SeekStart)
	}
	if err == nil {
		s.at = at
	}
	return at, err
}

// tailed is a body with an id behind it.
type tailed struct {
	body io.ReadSeeker
	size int64
	tail string
	at   int64
}

func (t *tailed) Read(p []byte) (n int, err error) {
	switch {
	case t.at < t.size:
		n, err = t.body.Read(p[:min(int64(len(p)), t.size-t.at)])
		if err == io.EOF && t.at+int64(n) == t.size {
			err = nil
		}
	case t.at < t.size+int64(len(t.tail)):
		n = copy(p, t.tail[t.at-t.size:])
	default:
		return 0, io.EOF
	}
	t.at += int64(n)
	return n, err
}

func (t *tailed) Seek(offset int64, whence int) (int64, error) {
	at, err := place(t.at, t.size+int64(len(t.tail)), offset, whence)
	if err == nil {
		_, err = t.body.Seek(min(at, t.size), io.SeekStart)
	}
	if err == nil {
		t.at = at
	}
	return at, err
}

// place is where a seek leads to.
func place(at, size, offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += at
	case io.SeekEnd:
		offset += size
	}
	if offset < 0 {
		return 0, errors.New("s3fence: seek before the start")
	}
	return offset, nil
}
