// Package transport carries raft messages and snapshots between the members of a cluster, and streams between all who may open
// them, over TCP or mutual TLS.
//
// [Listen] binds the address of this member; [TCP.Group] registers a raft group and starts everything; [Group.Send]
// sends messages and never blocks; what arrives goes to the group's [Handler]. [Probe] asks one address who is there.
// Every frame names its group, so that one listener and one set of connections serves many groups. [TCP.Handle] and [TCP.Open]
// serve and open streams.
//
// What a connection is before it is raft's — frames, handshake, TLS, roles, streams — is in internal/session, which knows nothing
// of raft; this package re-exports of it what its users need.
//
// # Connections
//
// Each member dials each other member; a connection carries messages in the direction of the dial only, and is one of:
//
//	control   heartbeats, votes, pre-votes, their responses, TimeoutNow, TransferLeader. Never behind bulk data.
//	bulk      MsgApp, MsgAppResp, ReadIndex. MsgAppResp is here because the direction follower → leader is free of
//	          entries, so that it waits behind nothing, and because its loss is reported as every bulk loss is.
//	snapshot  one MsgSnap, its body in chunks, an acknowledgement back. Dialled for the purpose.
//	probe     the handshake and nothing else.
//	stream    calls, tails and whatever else is no message of raft, in any number of streams at a time, in both directions, each with
//	          credit of its own. Dialled when the first is opened. The only ones of clients and operators.
//
// Names are resolved at every dial. Control and bulk connections are dialled at the start and kept: an election does not
// wait for a dial. Redials back off from 10 ms to 1 s (after a refusal from 1 s to 5 s), and happen at once when the peer
// dials us. From one peer the newest connection of a purpose replaces the older one.
//
// # Handshake and frames
//
// All integers are big-endian. Both sides begin with 8 bytes, the dialler first: BA 'b' 'a' 't' 'o' 'n', then the layout
// version as uint16. Then the dialler sends a hello frame; the listener answers with hello, which admits the dialler, or
// with refuse. The dialler may answer hello with refuse. The prefix, the frame header, hello and refuse keep their form in
// all versions. A frame is a header of 24 bytes and a body:
//
//	0   1  BA
//	1   1  type: 1 hello, 2 refuse, 3 message, 4 snapshot, 5 chunk, 6 end, 7 ack, 8 taken; 9–15 are those of streams
//	2   2  of a message: its number on the connection, from 0, modulo 65536; else zero
//	4   4  length of the body
//	8   8  group id, or the stream's (zero in the handshake)
//	16  4  CRC32C of the body
//	20  4  CRC32C of bytes 0–19: a damaged length is found before a byte of the body is awaited
//	24  …  body
//
//	hello     msgpack map, see [Hello]; at most 64 KiB
//	refuse    uint16 code, then text
//	message   protobuf raftpb.Message, any accepted type but MsgSnap
//	snapshot  int64 size of the body (−1: unknown), then protobuf raftpb.Message of type MsgSnap
//	chunk     1 byte … 256 KiB of the snapshot's body
//	end       int64 size of the whole body, uint32 CRC32C of the whole body
//	ack       uint16 code (0: taken, 1: failed), then text
//	taken     int64 bytes of the connection that were read after the handshake, uint8 1 if the handler blocks; comes back on
//	          control and bulk connections, 200 ms after something was read, and as long as the handler blocks
//
// A control or bulk connection on which something is outstanding and nothing new is taken for twice the WriteTimeout (control: at
// most 1 s), and at least 1 s, is stuck: it is closed and dialled again after growing pauses, with smaller segments, since a path may drop large
// packets without a word. That is a problem "connection" until something moves again. A receiver that is merely slow says so.
//
// # Two processes with one name
//
// A peer's process is replaced by another one that connects: a successor, while something of its predecessor is left. Since it may as well be a copy,
// the peer's address is asked first, and who does not answer there is refused: [ErrDuplicate], or [ErrNotNow] where nothing is said within half of
// HandshakeTimeout. Who is refused so has a problem "duplicate" with that peer until it is let in. If nobody is at the address the later process wins.
//
// # Limits (guarantee G8)
//
// A bulk queue holds Config.QueueBytes per peer, or one message if that is larger; what does not fit is dropped and
// reported with [Handler.Unreachable]. A control queue holds 1 MiB and drops its oldest. Both counts include what is being
// written. Lengths are checked before anything is allocated. For what is announced a connection allocates little more than
// 1 MiB, in the handshake 64 KiB; the buffer of a larger body grows only as its bytes arrive. 64 connections may be in the
// handshake; one more ends the oldest of them.
//
// What waits to be read in streams is bounded by Config.StreamBytes, for members and once more for clients; a session has at most
// Config.MaxStreams, whose handlers run, and there are Config.MaxClients sessions of clients. What is beyond is refused with an error.
//
// While disconnected, bulk messages wait in the queue: raft then has at most a probe in flight to that peer, and it is
// better sent at the first moment than asked for again. At a break everything queued is dropped, because what follows a
// gap would only be rejected. Of control messages the newest 8, younger than 100 ms, are kept, and never a TimeoutNow.
//
// # Concurrency
//
// All methods may be called from any goroutine. Each connection has one writing goroutine, which takes all that is queued
// at once, and one reading goroutine, so a dead, slow or silent peer delays nobody else. Bulk messages and snapshots are handed to
// the Handler by the reader, control messages and notices by a goroutine for each group, and whatever the program is told or
// asked in a handshake is called from one that nobody else waits for. See [Handler] for which may block. [TCP.Close] waits for all of them.
//
// Waking the writer costs more than a small write. So, on Linux and without TLS, Send itself writes what is queued, up to
// 256 KiB, while the writer has nothing to do: with one write that never waits. What the kernel does not take then, the
// writer finishes before anything else.
//
// Memory: the data of the entries of a received message are one block, which is freed when the last of them is.
//
// # Not guaranteed
//
// Delivery: messages get lost at breaks and overflows; they are never altered, and never reordered within a connection.
// Order between control and bulk. Without TLS, anything about who is at the other end; with TLS it is what its certificate
// says, see [AuthorizeByCertificate]. Groups share the queue and the connections of a peer: a group
// whose Receive blocks holds up the bulk messages of the others from that peer, and nothing else. [Handler.Gone] is true only where
// members' connections end at their own hosts.
package transport
