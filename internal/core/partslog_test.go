package core

import (
	"fmt"
	"strings"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// The parts that know where the log is: the way of old entries to one member, and the position.

// playFlow plays the flow to one member that lags.
func playFlow() func(l line) (string, bool) {
	f := flow{rest: restMost}
	return func(l line) (string, bool) {
		now := l.time("now")
		switch l.d.Cmd {
		case "heartbeat":
			f.heard(l.time("took"))
		case "give": // a piece leaves
			r := run{lo: 1, ents: make([]*raftpb.Entry, l.number("to")), bytes: 100}
			f.gave(now, &r, 0, l.d.HasArg("live"), float64(l.number("fresh"))/100, l.number("lacks"))
			if f.wide > 0 || l.d.HasArg("fresh") {
				return fmt.Sprintf("%d under way, %d at a time; in vain: %v", len(f.pieces), f.ahead(), f.outrun.vain), true
			}
		case "answer":
			f.answered(now, l.number("has"), l.d.HasArg("strained"), 500*time.Millisecond)
		case "steady": // pieces that take as long as they took, one after the other
			for range l.number("times") {
				now = f.lastOut + f.takes + f.trip
				f.lastOut, f.given = now, f.given+1
				f.pieces = append(f.pieces, piece{hi: f.given, at: now - f.takes - f.trip})
				f.answered(now, f.given, l.d.HasArg("strained"), 500*time.Millisecond)
			}
		case "room":
			switch at := f.room(now, l.d.HasArg("live"), float64(l.number("fresh"))/100); {
			case at >= never:
				return "after an answer", true
			case at <= now:
				return "now", true
			default:
				return fmt.Sprintf("at %v", at), true
			}
		default:
			return "", false
		}
		return fmt.Sprintf("a piece takes %v, the pause is %d eighths of that; %d under way", f.takes, f.rest, len(f.pieces)), true
	}
}

// playPosition plays the position as it moves over entries.
func playPosition() func(l line) (string, bool) {
	var p Position
	return func(l line) (string, bool) {
		e := &raftpb.Entry{Index: new(p.Raft + 1), Term: new(l.number("term"))}
		if l.d.HasArg("at") {
			e.Index = new(l.number("at"))
		}
		switch l.d.Cmd {
		case "empty": // raft's own, of a new leader
		case "epoch":
			e.Data = EncodeStart(l.text("of"), []byte("0123456789abcdef"))
		case "batch":
			e.Data = batchOf(l.number("epoch"), l.number("first"), strings.Split(l.text("records"), ",")...)
		case "unknown":
			e.Data = []byte{0xee}
		case "since":
			return fmt.Sprintf("%d epochs are known", len(p.Since(l.number("base")).Epochs)), true
		default:
			return "", false
		}
		moved, err := p.Next(e)
		if err != nil {
			return fmt.Sprintf("error: %v", err), true
		}
		return fmt.Sprintf("%d records count; after raft entry %d: record %d, epoch %d of %s, which begins with record %d",
			moved.Count, p.Raft, p.Index, p.Epoch().Epoch, p.Epoch().Holder, p.Epoch().First), true
	}
}
