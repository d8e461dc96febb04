package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/internal/stats"
	"github.com/baton-ha/baton/transport"
)

// Bounds of fixed buckets: nanoseconds, bytes, and a number.
var (
	times = []int64{
		20e3, 50e3, 100e3, 200e3, 500e3, 1e6, 2e6, 5e6, 10e6, 20e6, 50e6, 100e6, 200e6, 500e6, 1e9, 2e9, 5e9, 10e9,
	}
	sizes   = []int64{64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20, 64 << 20}
	numbers = []int64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000}
)

// families are all that there is, as docs/metrics.md lists them.
var families = slicesOf(
	roleFamilies(), appendFamilies(), logFamilies(), storageFamilies(), peerFamilies(),
)

func slicesOf(parts ...[]*family) (all []*family) {
	for _, part := range parts {
		for _, f := range part {
			f.desc = prometheus.NewDesc(f.name, f.help, f.labels, nil)
			all = append(all, f)
		}
	}
	return all
}

// one is a family of a single value.
func one(k kind, name, help string, value func(s *sample) any) *family {
	return &family{name: name, help: help, kind: k, collect: func(s *sample, emit func(any, ...string)) { emit(value(s)) }}
}

// seconds, bytes and count are families of one distribution each.
func seconds(name, help string, of func(s *ha.Stats) stats.Distribution) *family {
	return distribution(name, help, 1e-9, times, of)
}

func bytes(name, help string, of func(s *ha.Stats) stats.Distribution) *family {
	return distribution(name, help, 1, sizes, of)
}

func count(name, help string, of func(s *ha.Stats) stats.Distribution) *family {
	return distribution(name, help, 1, numbers, of)
}

func distribution(name, help string, scale float64, bounds []int64, of func(s *ha.Stats) stats.Distribution) *family {
	return &family{name: name, help: help, kind: ofHistogram, scale: scale, bounds: bounds,
		collect: func(s *sample, emit func(any, ...string)) { emit(of(&s.stats)) }}
}

// several is a family of one label that takes a value from a list.
func several(k kind, name, help, label string, values func(s *sample, emit func(any, ...string))) *family {
	return &family{name: name, help: help, kind: k, labels: []string{label}, collect: values}
}

func roleFamilies() []*family {
	return []*family{
		several(gauge, "baton_state", "1 for the state that the member is in.", "state", func(s *sample, emit func(any, ...string)) {
			for state := ha.Electing; ; state++ {
				name := state.String()
				if name == ha.State(0).String() {
					return // there are no more
				}
				emit(state == s.status.State, name)
			}
		}),
		one(gauge, "baton_epoch", "Epoch in force, as far as the member knows.", func(s *sample) any { return s.status.Epoch }),
		one(gauge, "baton_has_active", "1 if the member knows who is Active.", func(s *sample) any { return s.status.Active != "" }),
		one(gauge, "baton_lease_seconds", "How much longer the role is sure to last; 0 of whoever is not Active.", func(s *sample) any { return s.status.Lease }),
		one(counter, "baton_role_taken_total", "Epochs in which the member was Active.", func(s *sample) any { return s.stats.Roles.Taken }),
		several(counter, "baton_role_ended_total", "Of those, how many have ended, by cause.", "cause", func(s *sample, emit func(any, ...string)) {
			for cause, n := range s.stats.Roles.Ended {
				emit(n, cause)
			}
		}),
		seconds("baton_role_silence_seconds", "From the last append that was acknowledged before the member became Active, by whomever, to the first after it.", func(s *ha.Stats) stats.Distribution { return s.Roles.Silence }),
		several(counter, "baton_role_appends_total", "Appends that a change of roles has cost a member whose role had ended, by how they ended.", "outcome", func(s *sample, emit func(any, ...string)) {
			emit(s.stats.Roles.Refused, "refused")
			emit(s.stats.Roles.Unknown, "unknown")
		}),
		one(counter, "baton_elections_total", "Terms in which a leader became known.", func(s *sample) any { return s.stats.Log.Elections }),
		one(counter, "baton_elections_won_total", "Of those, how many this member led.", func(s *sample) any { return s.stats.Log.Won }),
		one(counter, "baton_epochs_total", "Epochs that began.", func(s *sample) any { return s.stats.Log.Epochs }),
		one(counter, "baton_lease_renewals_total", "Times that the lease became longer.", func(s *sample) any { return s.stats.Log.LeaseRenewals }),
		several(gauge, "baton_obstacle", "1 for each reason why the member may not have the role, or had better not.", "kind", func(s *sample, emit func(any, ...string)) {
			for _, o := range s.status.Obstacles {
				emit(1, string(o.Kind))
			}
		}),
		{name: "baton_problem", help: "1 for each thing that is wrong without ending the member; peer is the member that it is about.", kind: gauge, labels: []string{"kind", "peer"},
			collect: func(s *sample, emit func(any, ...string)) {
				for _, p := range s.status.Problems {
					emit(1, p.Kind, p.Peer)
				}
			}},
		several(gauge, "baton_members", "Members by how they are, this one among them.", "liveness", func(s *sample, emit func(any, ...string)) {
			for l := ha.Alive; l <= ha.Left; l++ {
				n := 0
				for _, m := range s.members {
					if m.Liveness == l {
						n++
					}
				}
				emit(n, l.String())
			}
		}),
	}
}

func appendFamilies() []*family {
	return []*family{
		several(counter, "baton_appends_total", "Records that were appended, and calls of Append that failed, by how they ended.", "outcome", func(s *sample, emit func(any, ...string)) {
			l := &s.stats.Log
			emit(l.Appended, "appended")
			emit(l.Fenced, "fenced")
			emit(l.Busy, "busy")
			emit(l.NoRoom, "no_room")
			emit(l.Failed, "failed")
			emit(l.Unknown, "unknown")
		}),
		one(counter, "baton_appends_abandoned_total", "Of the unknown ones, those whose ctx had ended.", func(s *sample) any { return s.stats.Log.Abandoned }),
		seconds("baton_append_seconds", "From the first record of a batch to its answer.", func(s *ha.Stats) stats.Distribution { return s.Log.AppendTime }),
		seconds("baton_commit_seconds", "From proposing a batch to learning that it is committed.", func(s *ha.Stats) stats.Distribution { return s.Log.CommitTime }),
		seconds("baton_apply_seconds", "That the state machine took for what was committed together.", func(s *ha.Stats) stats.Distribution { return s.Log.ApplyTime }),
		count("baton_batch_records", "Records of a batch.", func(s *ha.Stats) stats.Distribution { return s.Log.BatchRecords }),
		bytes("baton_batch_bytes", "Bytes of a batch.", func(s *ha.Stats) stats.Distribution { return s.Log.BatchBytes }),
		several(counter, "baton_calls_total", "Calls that came to the member, by how they ended; those of its own program only while it was Active.", "outcome", func(s *sample, emit func(any, ...string)) {
			c := &s.stats.Calls
			emit(c.Answered, "answered")
			emit(c.NotActive, "not_active")
			emit(c.Busy, "busy")
			emit(c.NoRoom, "no_room")
			emit(c.TooLarge, "too_large")
			emit(c.Refused, "refused")
			emit(c.Unknown, "unknown")
			emit(c.Expired, "expired")
			emit(c.AnswerLost, "answer_lost")
		}),
		one(gauge, "baton_callers", "Connections of clients by which calls come.", func(s *sample) any { return s.stats.Calls.Callers }),
		one(gauge, "baton_tails", "Clients that read the log here.", func(s *sample) any { return s.stats.Calls.Tails }),
		one(gauge, "baton_request_sessions", "Sessions of requests that take effect once, in the replicated table as far as the member has applied it; 16,384 at most, then whoever was used least lately expires.", func(s *sample) any { return s.stats.Log.Sessions }),
		one(gauge, "baton_request_sessions_bytes", "Bytes that they and the answers kept for them take, about; 4 MiB at most, with the same consequence.", func(s *sample) any { return s.stats.Log.SessionBytes }),
		one(gauge, "baton_appending_bytes", "Bytes of records whose fate is not known yet.", func(s *sample) any { return s.stats.Log.Waiting }),
	}
}

func logFamilies() []*family {
	return []*family{
		one(gauge, "baton_index", "Last record that the member knows to be committed.", func(s *sample) any { return s.status.Index }),
		one(gauge, "baton_applied_index", "Last record that its state machine was given.", func(s *sample) any { return s.status.Applied }),
		one(gauge, "baton_lag_records", "By how many records the state machine may be behind.", func(s *sample) any { return s.status.Lag.Records }),
		one(gauge, "baton_lag_seconds", "By how much time the state machine may be behind.", func(s *sample) any { return s.status.Lag.Time }),
		one(gauge, "baton_subscribers", "Readers of the log in this program.", func(s *sample) any { return s.stats.Log.Subscribers }),
		one(counter, "baton_read_records_total", "Records that were given to them.", func(s *sample) any { return s.stats.Log.Read }),
		several(gauge, "baton_queue", "What waits inside the member, by for whom.", "for", func(s *sample, emit func(any, ...string)) {
			l := &s.stats.Log
			emit(l.InboxEvents, "loop")
			emit(l.Writes, "writer")
			emit(l.Applies, "applier")
			emit(l.Fetches, "fetcher")
		}),
		one(gauge, "baton_inbox_bytes", "Bytes of entries that wait for the loop.", func(s *sample) any { return s.stats.Log.InboxBytes }),
		several(counter, "baton_checkpoints_total", "Checkpoints by how they ended.", "outcome", func(s *sample, emit func(any, ...string)) {
			emit(s.stats.Log.Checkpoints, "written")
			emit(s.stats.Log.CheckpointsFailed, "failed")
		}),
		seconds("baton_checkpoint_seconds", "That a checkpoint took.", func(s *ha.Stats) stats.Distribution { return s.Log.CheckpointTime }),
		several(counter, "baton_snapshots_total", "Checkpoints sent to others and received, by how that ended.", "outcome", func(s *sample, emit func(any, ...string)) {
			l := &s.stats.Log
			emit(l.SnapshotsSent, "sent")
			emit(l.SnapshotsNotSent, "not_sent")
			emit(l.SnapshotsReceived, "received")
			emit(l.SnapshotsRefused, "refused")
		}),
	}
}

func storageFamilies() []*family {
	return []*family{
		seconds("baton_disk_write_seconds", "Until a write to the log was durable.", func(s *ha.Stats) stats.Distribution { return s.Storage.Write }),
		seconds("baton_disk_mark_seconds", "Until the mark of how far that is was durable.", func(s *ha.Stats) stats.Distribution { return s.Storage.Sync }),
		one(counter, "baton_disk_written_bytes_total", "Written to the log, in whole blocks.", func(s *sample) any { return s.stats.Storage.LogBytes }),
		one(gauge, "baton_disk_log_bytes", "Of the log that is kept.", func(s *sample) any { return s.stats.Storage.Retained }),
		one(gauge, "baton_disk_checkpoint_bytes", "Of the checkpoints in force.", func(s *sample) any { return s.stats.Storage.SnapshotBytes }),
		one(gauge, "baton_disk_used_bytes", "Of all that, and what is reserved.", func(s *sample) any { return s.stats.Storage.Used }),
		one(gauge, "baton_disk_free_bytes", "In the file system; -1 if it is not known.", func(s *sample) any { return s.stats.Storage.Free }),
	}
}

// peers is a family with a label for the other member.
func peers(k kind, name, help string, value func(p *transport.PeerStats) any) *family {
	return several(k, name, help, "peer", func(s *sample, emit func(any, ...string)) {
		for i := range s.stats.Net.Peers {
			p := &s.stats.Net.Peers[i]
			emit(value(p), p.Name)
		}
	})
}

// lanes is a family with labels for the other member and the lane to it.
func lanes(k kind, name, help string, value func(l *transport.LaneStats) any) *family {
	return &family{name: name, help: help, kind: k, labels: []string{"peer", "lane"}, collect: func(s *sample, emit func(any, ...string)) {
		for i := range s.stats.Net.Peers {
			p := &s.stats.Net.Peers[i]
			emit(value(&p.Control), p.Name, "control")
			emit(value(&p.Bulk), p.Name, "bulk")
		}
	}}
}

func peerFamilies() []*family {
	return []*family{
		lanes(counter, "baton_peer_sent_bytes_total", "Given to the connections with a peer.", func(l *transport.LaneStats) any { return l.Sent.Bytes }),
		lanes(counter, "baton_peer_received_bytes_total", "That came from a peer.", func(l *transport.LaneStats) any { return l.Received.Bytes }),
		lanes(counter, "baton_peer_dropped_bytes_total", "That were not sent: no room, too old, or not connected.", func(l *transport.LaneStats) any { return l.Dropped.Bytes }),
		lanes(gauge, "baton_peer_queued_bytes", "That wait to be sent.", func(l *transport.LaneStats) any { return l.Queued }),
		lanes(counter, "baton_peer_connects_total", "Connections that were made; all but the first are made again.", func(l *transport.LaneStats) any { return l.Connects }),
		lanes(gauge, "baton_peer_connected", "1 if there is a connection for sending.", func(l *transport.LaneStats) any { return !l.Since.IsZero() }),
		lanes(gauge, "baton_peer_round_trip_seconds", "Of the network, as the kernel knows it; 0 if it does not.", func(l *transport.LaneStats) any { return l.Network.Smoothed }),
		peers(counter, "baton_peer_snapshot_sent_bytes_total", "Of checkpoints.", func(p *transport.PeerStats) any { return p.Snapshots.SentBytes }),
		peers(counter, "baton_peer_snapshot_received_bytes_total", "Of checkpoints.", func(p *transport.PeerStats) any { return p.Snapshots.ReceivedBytes }),
		several(gauge, "baton_member_lag_records", "By how many records each member is behind, as it has said.", "member", func(s *sample, emit func(any, ...string)) {
			for _, m := range s.members {
				emit(m.Lag, m.Name)
			}
		}),
		several(gauge, "baton_member_round_trip_seconds", "To another member's program and back.", "member", func(s *sample, emit func(any, ...string)) {
			for _, m := range s.members {
				emit(m.RoundTrip, m.Name)
			}
		}),
		several(counter, "baton_connections_total", "Connections that came in, by how they began.", "outcome", func(s *sample, emit func(any, ...string)) {
			emit(s.stats.Net.Accepted, "accepted")
			emit(s.stats.Net.Refused, "refused")
			emit(s.stats.Net.Failed, "failed")
		}),
		one(gauge, "baton_connections", "Connections of all kinds that stand.", func(s *sample) any { return s.stats.Net.Standing }),
		one(gauge, "baton_client_sessions", "Connections of clients and operators that stand; what the state knows of their requests is baton_request_sessions.", func(s *sample) any { return s.stats.Net.Clients }),
	}
}
