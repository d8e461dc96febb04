package transport

import (
	"errors"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/baton-ha/baton/internal/stats"

	"go.etcd.io/raft/v3/raftpb"
)

// Stats is what the transport has done since Listen, at one moment. It is a plain value. Everything but Standing, Clients, Held, Queued, Since and
// the round trips only grows; what is counted meanwhile may be in one number and not yet in another.
type Stats struct {
	Accepted  uint64 // connections that came in
	Shared    uint64 // of those, the ones that were handed on to Others
	Refused   uint64 // handshakes in which one side would not talk to the other, dialled or accepted
	Failed    uint64 // accepted connections that ended before they had said who they are
	TakenBack uint64 // connections that have ended since their certificate was not accepted any more
	Standing  int    // connections of all kinds that stand now, dialled and accepted
	Clients   int64  // sessions of clients and operators now

	MemberStreams, ClientStreams StreamStats

	Peers []PeerStats // by id; those that SetPeers has removed are gone from here
}

// PeerStats is what went to and came from one peer.
type PeerStats struct {
	Peer
	Control, Bulk LaneStats
	Snapshots     SnapshotStats
}

// Traffic counts frames, and their bytes on the wire without TLS and below.
type Traffic struct{ Frames, Bytes uint64 }

// LaneStats is about the control or the bulk connections with a peer: the one that we have dialled, which carries what we send, and the
// one that it has dialled, which carries what we receive.
type LaneStats struct {
	Since    time.Time // when the connection for sending was made; zero: there is none
	Dials    uint64    // tries to make it
	Connects uint64    // tries that went well; all but the first are redials

	Sent     Traffic // given to a connection; what it had not delivered when it broke is in it
	Dropped  Traffic // not sent: no room, too old, not connected, or the connection broke
	Received Traffic // with messages of groups that are not registered
	Lost     Traffic // received control messages that were not handed on, since Receive of their group blocked

	Queued  int64              // bytes that wait to be sent, or are being written
	Waited  stats.Distribution // nanoseconds that the first of what the writer found had waited; what Send wrote itself is not in it
	Network RoundTrip          // of the connection for sending
}

// RoundTrip is what the kernel knows of a connection's path. It does not contain what the programs at its ends take. All is 0 where
// it is not known: without a connection, and on other systems than Linux.
type RoundTrip struct {
	Smoothed, Min time.Duration // time from a segment to its acknowledgement (RFC 6298; the least of the last minutes)
	Retransmitted uint64        // segments that were sent again, on this connection
}

// SnapshotStats counts snapshots.
type SnapshotStats struct {
	Sent, Superseded, Failed uint64 // that were begun to be sent
	Received, NotTaken       uint64 // as ReceiveSnapshot has returned
	SentBytes, ReceivedBytes uint64 // of bodies, also of those that failed
	Broken                   uint64 // connections that have broken while one was sent, which went on over another
	SkippedBytes             uint64 // that were not sent again, because the receiver had them
	Sending, Receiving       Progress
}

// Progress is how far a snapshot has come that is on its way; zero: none is.
type Progress struct {
	Index uint64    // raft's, of the entry that it stands after
	Bytes int64     // of its body that are there
	Size  int64     // of its body, -1 if it is not known
	Since time.Time // when it was begun
}

// A journey is a Progress that changes.
type journey struct {
	index uint64
	size  int64
	since time.Time
	bytes atomic.Int64
}

func newJourney(m *raftpb.Message, size int64) *journey {
	return &journey{index: m.GetSnapshot().GetMetadata().GetIndex(), size: size, since: time.Now()}
}

// load returns it as it is; of nil, none.
func (p *journey) load() Progress {
	if p == nil {
		return Progress{}
	}
	return Progress{Index: p.index, Bytes: p.bytes.Load(), Size: p.size, Since: p.since}
}

// meter counts what one goroutine sees, for others to read.
type meter struct{ frames, bytes atomic.Uint64 }

func (m *meter) add(bytes int) {
	m.frames.Add(1)
	m.bytes.Add(uint64(bytes))
}

func (m *meter) traffic() Traffic { return Traffic{m.frames.Load(), m.bytes.Load()} }

func (t *Traffic) add(frames int, bytes int64) {
	t.Frames += uint64(frames)
	t.Bytes += uint64(bytes)
}

// laneCounts are of one lane. What is not atomic is guarded by lane.mu, which whoever counts holds anyway.
type laneCounts struct {
	since         time.Time
	conn          net.Conn // for its round trip
	dials         uint64
	connects      uint64
	sent, dropped Traffic
	waiting       time.Time // since when the first of the queue waits for the writer
	waited        stats.Histogram
	received      meter
	lost          meter
}

type snapshotCounts struct {
	sent, superseded, failed, received, notTaken, sentBytes, receivedBytes, broken, skippedBytes atomic.Uint64
}

type tcpCounts struct{ accepted, shared, refused, failed atomic.Uint64 }

// refused counts, and tells the program.
func (t *TCP) refused(r *RefusedError) {
	t.counts.refused.Add(1)
	t.end.Refuse(r)
}

// Stats returns what has been done so far. It takes a few microseconds for each peer, and may be called at any time.
func (t *TCP) Stats() Stats {
	c := &t.counts
	s := Stats{Accepted: c.accepted.Load(), Shared: c.shared.Load(), Refused: c.refused.Load(), Failed: c.failed.Load(), TakenBack: t.end.TakenBack(), Standing: t.end.Standing()}
	s.Clients, s.MemberStreams, s.ClientStreams = t.clients.Load(), t.memberStreams.stats(), t.clientStreams.stats()
	for _, p := range t.dir.Load().byID {
		s.Peers = append(s.Peers, PeerStats{Peer: p.Peer, Control: p.control.stats(), Bulk: p.bulk.stats(), Snapshots: p.snapshotStats()})
	}
	slices.SortFunc(s.Peers, func(a, b PeerStats) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	return s
}

// A Transfer is a snapshot on its way to a peer or from it.
type Transfer struct {
	Peer  Peer
	Sends bool // to it
	Progress
}

// Transfers returns the snapshots on their way, by name of the peer. It does not block.
func (t *TCP) Transfers() (list []Transfer) {
	for _, p := range t.dir.Load().byID {
		if s := p.sending.Load(); s != nil {
			list = append(list, Transfer{p.Peer, true, s.load()})
		}
		if r := p.receiving.Load(); r != nil {
			list = append(list, Transfer{p.Peer, false, r.load()})
		}
	}
	slices.SortFunc(list, func(a, b Transfer) int { return strings.Compare(a.Peer.Name, b.Peer.Name) })
	return list
}

// dials counts a try to connect.
func (l *lane) dials() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts.dials++
}

// lose counts what was not written, and the rest of what was to be.
func (l *lane) lose(frames int, bytes int64, rest []queued) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts.dropped.add(frames, bytes)
	for _, q := range rest {
		l.counts.dropped.add(1, q.size)
	}
}

// connects counts one that went well.
func (l *lane) connects(conn net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts.connects++
	l.counts.since, l.counts.conn = time.Now(), conn
}

func (l *lane) stats() LaneStats {
	l.mu.Lock()
	c := &l.counts
	s := LaneStats{Since: c.since, Dials: c.dials, Connects: c.connects, Sent: c.sent, Dropped: c.dropped, Queued: l.bytes}
	conn := c.conn
	l.mu.Unlock()
	s.Waited, s.Received, s.Lost = c.waited.Snapshot(), c.received.traffic(), c.lost.traffic()
	if conn != nil {
		s.Network = roundTrip(conn)
	}
	return s
}

// end counts the end of sending a snapshot.
func (c *snapshotCounts) end(err error) {
	switch {
	case err == nil:
		c.sent.Add(1)
	case errors.Is(err, ErrSuperseded):
		c.superseded.Add(1)
	default:
		c.failed.Add(1)
	}
}

func (p *peer) snapshotStats() SnapshotStats {
	c := &p.counts
	return SnapshotStats{
		Sent: c.sent.Load(), Superseded: c.superseded.Load(), Failed: c.failed.Load(), Received: c.received.Load(), NotTaken: c.notTaken.Load(),
		SentBytes: c.sentBytes.Load(), ReceivedBytes: c.receivedBytes.Load(),
		Broken: c.broken.Load(), SkippedBytes: c.skippedBytes.Load(), Sending: p.sending.Load().load(), Receiving: p.receiving.Load().load(),
	}
}
