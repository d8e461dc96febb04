package filefence

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// What the token costs a file of 4 KiB that is replaced durably, by rename and by a numbered version.
func BenchmarkReplace(b *testing.B) {
	text := make([]byte, 4096)
	b.Run("token=no", func(b *testing.B) {
		d := directory(b.TempDir())
		for b.Loop() {
			f, err := d.create("new")
			if err != nil {
				b.Fatal(err)
			}
			if _, err = f.Write(text); err == nil {
				err = f.Sync()
			}
			f.Close()
			if err == nil {
				err = os.Rename(filepath.Join(string(d), "new"), filepath.Join(string(d), "file"))
			}
			if err == nil {
				err = d.sync()
			}
			if err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("token=yes", func(b *testing.B) {
		f := newFile(b, b.TempDir())
		for b.Loop() {
			if _, err := f.Replace(b.Context(), token(1), bytes.NewReader(text)); err != nil {
				b.Fatal(err)
			}
		}
	})
}
