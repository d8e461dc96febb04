// Package watchdog has ready-made watchdogs for Config.Watchdog of package ha: that of systemd, and the device of the Linux kernel.
// A watchdog ends the process, or the machine, when it is not fed in time. Package ha feeds it only as long as this member cannot
// do harm: its loop runs, and no OnActive goes on long after its role has ended. It is a fence against oneself, as
// ZooKeeper's and Windows' cluster services have it in their hosts.
package watchdog

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"
)

// ErrNone is returned, wrapped, by NewSystemd when the service manager watches nobody, or another process, and by Notify when there is none.
var ErrNone = errors.New("watchdog: the service manager does not watch this process")

// A Systemd feeds the watchdog of the service manager over its notification socket, as sd_notify(3) does. Its methods may
// be called by any goroutine.
type Systemd struct {
	conn  *net.UnixConn
	every time.Duration
}

// NewSystemd returns the watchdog of the unit that this process runs in: the unit has WatchdogSec=, and NotifyAccess= lets this process
// speak. It reads $NOTIFY_SOCKET, $WATCHDOG_USEC and $WATCHDOG_PID. Nothing is said to the manager but WATCHDOG=1; that the service is
// ready (Type=notify) is for the program to say, by [Notify].
func NewSystemd() (*Systemd, error) {
	socket, usec, pid := os.Getenv("NOTIFY_SOCKET"), os.Getenv("WATCHDOG_USEC"), os.Getenv("WATCHDOG_PID")
	if socket == "" || usec == "" || pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return nil, fmt.Errorf("%w: NOTIFY_SOCKET=%q WATCHDOG_USEC=%q WATCHDOG_PID=%q", ErrNone, socket, usec, pid)
	}
	n, err := strconv.ParseInt(usec, 10, 64)
	if err != nil || n <= 0 || n > int64(time.Duration(1<<62)/time.Microsecond) {
		return nil, fmt.Errorf("watchdog: WATCHDOG_USEC=%q is no length of time", usec)
	}
	conn, err := dial(socket)
	if err != nil {
		return nil, err
	}
	return &Systemd{conn, time.Duration(n) * time.Microsecond / 3}, nil
}

// dial connects to the manager. A name that begins with @ is of the abstract name space, which package net understands.
func dial(socket string) (*net.UnixConn, error) {
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("watchdog: %w", err)
	}
	return conn, nil
}

// Notify tells the service manager a state, as sd_notify(3) does: "READY=1" when the service is there (Type=notify), "STOPPING=1", "STATUS=…". It
// reads $NOTIFY_SOCKET, and waits for at most a second. Without a service manager that wants to know it returns [ErrNone], wrapped.
func Notify(state string) error {
	socket := os.Getenv("NOTIFY_SOCKET")
	if socket == "" {
		return fmt.Errorf("%w: NOTIFY_SOCKET is not set", ErrNone)
	}
	conn, err := dial(socket)
	if err != nil {
		return err
	}
	if err = conn.SetWriteDeadline(time.Now().Add(time.Second)); err == nil {
		_, err = conn.Write([]byte(state))
	}
	if err = errors.Join(err, conn.Close()); err != nil {
		return fmt.Errorf("watchdog: %w", err)
	}
	return nil
}

// Every is a third of WatchdogSec=.
func (s *Systemd) Every() time.Duration { return s.every }

// Feed says that the process lives. It does not block for longer than a third of WatchdogSec=.
func (s *Systemd) Feed() error {
	if err := s.conn.SetWriteDeadline(time.Now().Add(s.every)); err != nil {
		return fmt.Errorf("watchdog: %w", err)
	}
	if _, err := s.conn.Write([]byte("WATCHDOG=1")); err != nil {
		return fmt.Errorf("watchdog: %w", err)
	}
	return nil
}

// Close closes the socket. The manager goes on watching: a process that goes on, too, feeds it itself.
func (s *Systemd) Close() error { return s.conn.Close() }

// A Device feeds a watchdog of the Linux kernel, which restarts the machine. Its methods are called by one goroutine at a time.
type Device struct {
	file  *os.File
	every time.Duration
}

// OpenDevice opens a watchdog, such as /dev/watchdog, which begins to count with that. It is fed so often: a third of its timeout, which the
// administrator has set (wdctl), or less. The process needs the right to write to it, and the device has one user at a time.
func OpenDevice(path string, every time.Duration) (*Device, error) {
	if every <= 0 {
		return nil, fmt.Errorf("watchdog: every %v is no length of time", every)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("watchdog: %w", err)
	}
	return &Device{f, every}, nil
}

// Every is as OpenDevice was told.
func (d *Device) Every() time.Duration { return d.every }

// Feed writes to the device.
func (d *Device) Feed() error {
	if _, err := d.file.Write([]byte{0}); err != nil {
		return fmt.Errorf("watchdog: %w", err)
	}
	return nil
}

// Close stops the watchdog, by the kernel's magic close, where the driver allows it (nowayout), and closes the device.
func (d *Device) Close() error {
	_, err := d.file.Write([]byte{'V'})
	if err = errors.Join(err, d.file.Close()); err != nil {
		return fmt.Errorf("watchdog: %w", err)
	}
	return nil
}
