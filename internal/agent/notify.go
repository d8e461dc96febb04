//go:build linux

package agent

import (
	"errors"
	"net"
	"os"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/ha/watchdog"
)

// systemdWatchdog is the watchdog of the agent's unit, nil if it has none. It ends an agent that stands still, and so its program.
func systemdWatchdog() (ha.Watchdog, error) {
	w, err := watchdog.NewSystemd()
	if errors.Is(err, watchdog.ErrNone) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return w, nil
}

// A notifier tells systemd what the agent is at (sd_notify(3)), if it wants to know.
type notifier struct{ conn net.Conn }

func newNotifier() *notifier {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return &notifier{}
	}
	for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
		_ = os.Unsetenv(name) // it is not the program's
	}
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
