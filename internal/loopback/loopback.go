// Package loopback gives tests addresses of this machine that stay theirs: for members that are stopped, for others to find nobody there, and started
// again. Only tests use it.
package loopback

import (
	"net"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
)

// The ports are below those that the system gives to outgoing connections, and to listeners on port 0.
const first, ports = 10_000, 22_000

// given counts the ports that were given out.
var given atomic.Uint32

// host is where this process listens: an IP address of its own, where all of 127.0.0.0/8 is this machine. So no other process, which
// looks for ports itself, can take one for a moment just when the member that it belongs to starts again.
var host = func() string {
	pid := os.Getpid()
	if runtime.GOOS != "linux" || pid >= 126<<16 {
		return "127.0.0.1"
	}
	return net.IPv4(127, byte(1+pid>>16), byte(pid>>8), byte(pid)).String()
}()

// Host is the IP address of what [Addr] returns, for certificates.
func Host() string { return host }

// A Test is a [testing.TB], or a script.
type Test interface {
	Fatalf(format string, args ...any)
}

// Addr returns an address, IP and port, where nobody listens. No other call in this process returns it, nor, on Linux, one in another process. It ends
// the test if there is none.
func Addr(test Test) string {
	for range ports {
		port := first + (uint32(os.Getpid())*151+given.Add(1))%ports
		addr := net.JoinHostPort(host, strconv.Itoa(int(port)))
		if l, err := net.Listen("tcp", addr); err == nil {
			l.Close()
			return addr
		}
	}
	test.Fatalf("no free port on %s", host)
	return ""
}
