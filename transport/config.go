package transport

import (
	"errors"
	"fmt"
	"net"
	"time"
)

const (
	defaultQueueBytes = 64 << 20
	defaultMaxFrame   = 65 << 20

	defaultSnapshotRate = 256 << 10
	defaultStreamBytes  = 64 << 20
	defaultMaxClients   = 1024

	minStreamBytes = 256 << 10

	minSnapshotLimit = 1 << 20
	minMaxFrame      = 64 << 10
	maxMaxFrame      = 1 << 30
)

// Config is what [Listen] and [Probe] need. It is copied; what it points to must not change afterwards.
type Config struct {
	// SessionConfig has Self and Peers; [TCP.SetPeers] changes the peers later.
	SessionConfig

	// Bind is the address to listen on, host:port. Empty: Self.Addr.
	Bind string

	// Listener, if not nil, is listened on instead of Bind, and closed by Close. Others must reach it at Self.Addr.
	Listener net.Listener

	// Share hands on the connections that are not a member's or a client's, told apart by their first bytes, to [TCP.Others]. With TLS
	// ours are those that name the protocol "baton" in ALPN. Without: everything else is refused.
	Share bool

	// QueueBytes bounds each peer's bulk queue, in bytes on the wire. 0: 64 MiB.
	QueueBytes int64

	// MaxFrame bounds one frame's body in bytes, sent and received; all members should have the same. 0: 65 MiB, for
	// entries of 64 MiB. From 64 KiB to 1 GiB.
	MaxFrame int

	// StreamBytes bounds what may wait to be read in all streams of members, in bytes, and as much in those of all clients: each
	// stream has 8 KiB of it, and up to 1 MiB while it is read. 0: 64 MiB. At least 256 KiB.
	StreamBytes int64

	MaxStreams int // streams of one session at a time, handlers that have not returned included. 0: 1024
	MaxClients int // sessions of clients and operators at a time. 0: 1024

	WriteTimeout    time.Duration // half of the time in which something of what was sent must be taken; on control connections at most 1 s. 0: 5 s
	SnapshotTimeout time.Duration // longest standstill of a snapshot's sender; its receiver has three times as long. 0: 10 s
	Backoff         time.Duration // first pause before a redial, doubling with jitter. 0: 10 ms
	MaxBackoff      time.Duration // longest such pause. 0: 1 s, or Backoff if that is longer

	// SnapshotRate is the least rate, in bytes a second, at which a snapshot must arrive: the whole of it may take
	// SnapshotTimeout and its size at this rate. 0: 256 KiB.
	SnapshotRate int64

	// SnapshotLimit is the most bytes a second at which snapshots are sent, to all peers together. 0: none. At least 1 MiB.
	SnapshotLimit int64

	// SnapshotPace, if not nil, is at how many bytes a second they should be sent at present, if that is less. 0: no limit. It is asked
	// before each chunk of 256 KiB, by any goroutine, and must not block.
	SnapshotPace func() int64

	// Awaited, if not nil, reports whether the program itself says at present for which peers it waits, and why they cannot be reached, so that the log
	// has no lines of that. Any goroutine may call it, and it must not block.
	Awaited func() bool

	// Parted, if not nil, reports whether a peer has said that it leaves in good order, and nothing since, so that its absence is no news. Any goroutine may
	// call it, and it must not block.
	Parted func(peer string) bool

	// CrashEvidence turns on [Handler.Gone]. Leave it off where connections to or from members do not end at their own hosts, but at a
	// proxy, a load balancer or a container's port mapping, which can end them and refuse others while the process is alive.
	CrashEvidence bool
}

// Validate reports all faults of c at once, or nil. It resolves no names.
func (c Config) Validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf("transport: "+format, args...)) }

	faults = append(faults, c.SessionConfig.Faults()...)
	if c.Bind != "" {
		if _, err := CheckAddr(c.Bind, true); err != nil {
			fault("Bind: %w", err)
		}
	}
	if c.Bind != "" && c.Listener != nil {
		fault("Bind and Listener are both set")
	}
	if c.QueueBytes < 0 {
		fault("QueueBytes is negative: %d", c.QueueBytes)
	}
	if c.StreamBytes != 0 && c.StreamBytes < minStreamBytes {
		fault("StreamBytes is %d, less than %d", c.StreamBytes, minStreamBytes)
	}
	if c.MaxStreams < 0 || c.MaxClients < 0 {
		fault("MaxStreams or MaxClients is negative: %d, %d", c.MaxStreams, c.MaxClients)
	}
	if c.SnapshotRate < 0 {
		fault("SnapshotRate is negative: %d", c.SnapshotRate)
	}
	if c.SnapshotLimit != 0 && c.SnapshotLimit < minSnapshotLimit {
		fault("SnapshotLimit is %d, less than %d", c.SnapshotLimit, minSnapshotLimit)
	}
	if c.MaxFrame != 0 && (c.MaxFrame < minMaxFrame || c.MaxFrame > maxMaxFrame) {
		fault("MaxFrame is %d, not in [%d, %d]", c.MaxFrame, minMaxFrame, maxMaxFrame)
	}
	for _, d := range []struct {
		name string
		d    time.Duration
	}{
		{"WriteTimeout", c.WriteTimeout},
		{"SnapshotTimeout", c.SnapshotTimeout}, {"Backoff", c.Backoff}, {"MaxBackoff", c.MaxBackoff},
	} {
		if d.d < 0 {
			fault("%s is negative: %v", d.name, d.d)
		}
	}
	return errors.Join(faults...)
}

// withDefaults returns c with every zero value that has a default replaced by it.
func (c Config) withDefaults() Config {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&c.WriteTimeout, 5*time.Second)
	def(&c.SnapshotTimeout, 10*time.Second)
	def(&c.Backoff, 10*time.Millisecond)
	def(&c.MaxBackoff, max(time.Second, c.Backoff))
	if c.QueueBytes == 0 {
		c.QueueBytes = defaultQueueBytes
	}
	if c.StreamBytes == 0 {
		c.StreamBytes = defaultStreamBytes
	}
	if c.MaxClients == 0 {
		c.MaxClients = defaultMaxClients
	}
	if c.SnapshotRate == 0 {
		c.SnapshotRate = defaultSnapshotRate
	}
	if c.MaxFrame == 0 {
		c.MaxFrame = defaultMaxFrame
	}
	if c.Bind == "" {
		c.Bind = c.Self.Addr
	}
	c.SessionConfig = c.SessionConfig.WithDefaults()
	c.Logger = c.Logger.With("member", c.Self.Name)
	return c
}
