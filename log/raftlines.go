package log

import (
	"context"
	"fmt"
	"log/slog"
)

// raftLines lets raft write to slog.
type raftLines struct{ to *slog.Logger }

func (l raftLines) write(level slog.Level, format string, v []any) {
	if l.to.Enabled(context.Background(), level) {
		l.to.Log(context.Background(), level, "raft", "event", fmt.Sprintf(format, v...))
	}
}

// Debugf implements [Logger].
func (l raftLines) Debugf(format string, v ...any) { l.write(slog.LevelDebug, format, v) }

// Errorf implements [Logger].
func (l raftLines) Errorf(format string, v ...any) { l.write(slog.LevelError, format, v) }
