package benchmarks

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"github.com/baton-ha/baton/benchmarks/internal/harness"
)

func TestHistogram(t *testing.T) {
	var h harness.Histogram
	if got := h.Quantile(.5); got != 0 {
		t.Errorf("median of nothing is %v", got)
	}
	for i := range 100_000 {
		h.Add(i, time.Duration(i+1)*time.Microsecond)
	}
	if got := h.Count(); got != 100_000 {
		t.Errorf("count is %d", got)
	}
	for _, q := range []float64{0, .001, .5, .99, .999, 1} {
		want := max(1, q*100_000) * float64(time.Microsecond)
		if got := float64(h.Quantile(q)); got < .98*want || got > 1.02*want {
			t.Errorf("quantile %v is %v, want about %v", q, time.Duration(got), time.Duration(want))
		}
	}
}

// TestShim checks that every byte arrives, in order and late, and that the delay is no bound on throughput.
func TestShim(t *testing.T) {
	const delay, size = 30 * time.Millisecond, 16 << 20
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() { // an echo
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = io.Copy(c, c)
	}()
	s, err := harness.NewShim(l.Addr().String(), delay)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	sent, got := harness.Payload(size), make([]byte, size)
	begin := time.Now()
	go func() { _, _ = c.Write(sent) }()
	if _, err := io.ReadFull(c, got[:1]); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(begin); d < 2*delay {
		t.Errorf("first byte is back after %v, want at least %v", d, 2*delay)
	}
	if _, err := io.ReadFull(c, got[1:]); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(sent, got) {
		t.Error("other bytes came back")
	}
	// One chunk of 64 KiB per delay would take 7 s.
	if d := time.Since(begin); d > 5*time.Second {
		t.Errorf("%d bytes took %v", size, d)
	}
}
