package session

import (
	"errors"
	"net"
	"syscall"
	"testing"
	"time"
)

// An end in order is told from a reset, also where reading cannot: a write has taken the error.
func TestFinished(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for _, reset := range []bool{false, true} {
		conn, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		other, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		l := NewLink(conn, conn)
		if l.Finished() {
			t.Error("has ended before its end")
		}
		if reset {
			_ = other.(*net.TCPConn).SetLinger(0)
		}
		other.Close()
		if reset {
			for err = nil; err == nil; { // until it has come
				_, err = conn.Write([]byte{1})
			}
			if !errors.Is(err, syscall.ECONNRESET) {
				t.Error(err)
			}
		}
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := conn.Read(make([]byte, 1)); !HungUp(err) {
			t.Error(err)
		} else if got := l.Finished(); got == reset {
			t.Errorf("reset %v: finished %v after %v", reset, got, err)
		}
		l.Close()
		if l.Finished() {
			t.Error("says something after Close")
		}
	}
}
