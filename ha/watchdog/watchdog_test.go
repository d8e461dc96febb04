package watchdog_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/ha/watchdog"
)

var (
	_ ha.Watchdog = (*watchdog.Systemd)(nil)
	_ ha.Watchdog = (*watchdog.Device)(nil)
)

func TestSystemd(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	t.Setenv("NOTIFY_SOCKET", socket)
	t.Setenv("WATCHDOG_USEC", "3000000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	w, err := watchdog.NewSystemd()
	if err != nil {
		t.Fatal(err)
	}
	if w.Every() != time.Second {
		t.Errorf("it is fed every %v, want 1s", w.Every())
	}
	if err := w.Feed(); err != nil {
		t.Error(err)
	}
	b := make([]byte, 100)
	n, err := manager.Read(b)
	if string(b[:n]) != "WATCHDOG=1" || err != nil {
		t.Errorf("the manager was told %q, %v", b[:n], err)
	}
	if err := watchdog.Notify("READY=1"); err != nil {
		t.Error(err)
	}
	n, err = manager.Read(b)
	if string(b[:n]) != "READY=1" || err != nil {
		t.Errorf("the manager was told %q, %v", b[:n], err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if err := w.Feed(); err == nil {
		t.Error("a closed watchdog was fed")
	}
	t.Setenv("WATCHDOG_PID", "1")
	if _, err := watchdog.NewSystemd(); !errors.Is(err, watchdog.ErrNone) {
		t.Errorf("the watchdog of another process: %v", err)
	}
	t.Setenv("WATCHDOG_PID", "")
	for _, usec := range []string{"x", "0", "-1", "9223372036854775807"} {
		t.Setenv("WATCHDOG_USEC", usec)
		if _, err := watchdog.NewSystemd(); err == nil || errors.Is(err, watchdog.ErrNone) {
			t.Errorf("WATCHDOG_USEC=%s: %v", usec, err)
		}
	}
	t.Setenv("NOTIFY_SOCKET", socket+".gone")
	if err := watchdog.Notify("READY=1"); err == nil || errors.Is(err, watchdog.ErrNone) {
		t.Errorf("a manager that is gone was told: %v", err)
	}
	t.Setenv("NOTIFY_SOCKET", "")
	if err := watchdog.Notify("READY=1"); !errors.Is(err, watchdog.ErrNone) {
		t.Errorf("without a service manager: %v", err)
	}
	if _, err := watchdog.NewSystemd(); !errors.Is(err, watchdog.ErrNone) {
		t.Errorf("without a service manager: %v", err)
	}
}

func TestDevice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "watchdog")
	if _, err := watchdog.OpenDevice(path, time.Second); err == nil {
		t.Error("a device that is not there was opened")
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := watchdog.OpenDevice(path, 0); err == nil {
		t.Error("a device that is never fed was opened")
	}
	w, err := watchdog.OpenDevice(path, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Feed(), w.Feed(), w.Close()); err != nil {
		t.Error(err)
	}
	if b, _ := os.ReadFile(path); string(b) != "\x00\x00V" {
		t.Errorf("the device was written %q", b)
	}
}
