//go:build linux

package agent

import (
	"net"
	"os"
)

// A notifier tells systemd what the agent is at (sd_notify(3)), if it wants to know.
type notifier struct{ conn net.Conn }

func newNotifier() *notifier {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return &notifier{}
	}
	_ = os.Unsetenv("NOTIFY_SOCKET") // it is not the program's
	conn, err := net.Dial("unixgram", path)
	if err != nil {
		return &notifier{}
	}
	return &notifier{conn}
}

func (n *notifier) say(state string) {
	if n.conn != nil {
		_, _ = n.conn.Write([]byte(state)) // who does not listen misses it
	}
}

func (n *notifier) close() {
	if n.conn != nil {
		n.conn.Close()
	}
}
