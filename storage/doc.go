// Package storage keeps what one member must not forget: raft's log and hard state in a WAL in etcd's format,
// snapshots in files beside it, and who the member is. [Open] makes a [WAL], which is what package log calls its storage.
//
// # Honest disk
//
// Guarantee G7: damage is found, never served. etcd's own wal.Repair cuts the log at the first record that does not decode,
// acknowledged or not. Here a small file, the mark, remembers how far the WAL had been synced, and each synced write begins
// with a boundary, a record that can be found again behind damage: all before it was durable when it was written. Open
// decodes the WAL itself before it changes anything: if that stops before the mark, before a boundary, or in a segment that
// is not the last, the answer is a [CorruptError] with file and offset. So it is if a slot of the mark cannot be read, as no
// crash leaves it so. What does not decode after all that was never acknowledged: it is cut off. Segments
// from before the newest snapshot are verified when [WAL.Entries] first reads them. After a failed write or fsync nothing
// is written any more: every later call returns the first error.
//
// [Verify] reads a directory that nobody has open and names all that is bad in it.
//
// # Files
//
//	LOCK      locked while open
//	creating  there only during the creation
//	identity  cluster, member, raft id, incarnation, cluster id, peers met: msgpack with a checksum, replaced atomically
//	mark      two slots in turn: how far the WAL is durable
//	wal/      segments, <sequence>-<index>.wal; each starts with the identity and the hard state; spare.tmp is the next one
//	snap/     <index>-<term>.snap in force, the newest two; .staged received but not in force; .part received in part;
//	          .<random>.tmp unfinished
//
// All integers are little-endian, all checksums CRC32C.
//
//	identity  "BATONID\0" | version u32 | length u32 | msgpack | crc u32 of all before
//	mark      8192 bytes, slots at 0 and 4096, two copies in each, 512 bytes apart: "BMRK" | version u32 | count u64 | incarnation u64 | segment u64 | offset u64 |
//	          term u64 | vote u64 | last term u64 | last index u64 | snapshot u64 | floor u64 | wal crc u32 | 0 u32 | crc u32
//	snapshot  "BATONSNP" | version u32, 2 | body | raftpb.Snapshot | its length u32 | body length u64 | crc u32 of the body | crc u32 of all
//	          but the body; in version 1: "BATONSNP" | 1 u32 | length u32 | raftpb.Snapshot | body | body length u64 | crc u32 of all before
//	record    length u56 and 0x80|padding u8 | walpb.Record {type, crc, data} | padding to 8 bytes   (etcd's format)
//	boundary  in a checksum record: "BATONEND" | incarnation u64 | segment u64 | its offset u64 | crc u32 of that and the crc
//	metadata  0 u8 | version u8 | raft id u64 | incarnation u64 | length u16 | cluster | member
//
// The crc in a record is a running one, over the data of all records so far. It does not cover the type, so hard states are
// written with exactly three fields and entries with exactly four: neither can be taken for the other.
//
// # Not guaranteed
//
// The mark is written after each synced Save, but synced itself only when term or vote change, when a segment or a snapshot
// is finished, in Close, and within a second otherwise: a second fsync for each Save would halve the speed. It survives the
// death of the process. After a power cut it may be up to about a second old. Damage then looks like a torn write if it
// takes the last Save, or an earlier one and the boundaries of all that came later. A vote is never lost so. A whole directory put back from an older copy is consistent in itself: the incarnation and the votes of the
// other members must find that out. A checksum of 32 bits misses one in four billion arbitrary damages.
//
// # File system
//
// Every file is reached through package vfs, which says what a file system must keep. [Options].FS puts another one in, for tests.
//
// # Concurrency
//
// All methods may be called at any time, from any goroutine. Save, InstallSnapshot and the last step of SaveSnapshot exclude
// each other; Entries and OpenSnapshot never wait for a write. No lock is held while a body is read or written: each
// snapshot is made in a file of its own name, and only what brings it into force (a rename, a record in the WAL, the mark)
// is exclusive. What is being read stays until it has been: Compact waits for the readers of what it deletes. Each WAL owns
// three goroutines: one syncs the mark, one prepares room for what is to be written, one deletes old snapshots; Watch adds
// one that looks after the directory. Close ends them.
package storage
