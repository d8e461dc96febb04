package transport

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The certificates that docs/configuration.md makes are what it says.
func TestReadmeCertificates(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"bash", "openssl"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(err)
		}
	}
	text, err := os.ReadFile("../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	_, script, found := strings.Cut(string(text), "```sh\nopenssl req")
	script, _, end := strings.Cut(script, "```")
	if !found || !end {
		t.Fatal("docs/configuration.md makes no certificates")
	}
	cmd := exec.Command("bash", "-e", "-c", "openssl req"+script)
	cmd.Dir = t.TempDir()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	files := func(name string) Config {
		c := config(name)
		c.GetTLS = TLSFiles(filepath.Join(cmd.Dir, name+".crt"), filepath.Join(cmd.Dir, name+".key"), filepath.Join(cmd.Dir, "ca.crt"))
		return c
	}
	a, b := pair(t, files("a"), files("b"))
	a.connected(t)
	b.connected(t)
	reader := files("reader")
	reader.Self = peerAt("a", "127.0.0.1:1")
	_, err = Probe(t.Context(), reader, b.self)
	mustBe(t, "reader", false, err)
}
