package log

import (
	"context"
	"fmt"
	"log/slog"
)

// raftLogger lets raft write to slog. What raft calls fatal or a panic becomes a panic, which Step
// turns into an error.
type raftLogger struct{ to *slog.Logger }

func (l raftLogger) write(level slog.Level, v ...any) {
	if l.to.Enabled(context.Background(), level) {
		l.to.Log(context.Background(), level, "raft", "event", fmt.Sprint(v...))
	}
}

func (l raftLogger) writef(level slog.Level, format string, v ...any) {
	if l.to.Enabled(context.Background(), level) {
		l.to.Log(context.Background(), level, "raft", "event", fmt.Sprintf(format, v...))
	}
}

// Raft is talkative: its news are of use only to someone who debugs raft.
func (l raftLogger) Debug(v ...any)                   {}
func (l raftLogger) Debugf(format string, v ...any)   {}
func (l raftLogger) Info(v ...any)                    { l.write(slog.LevelDebug, v...) }
func (l raftLogger) Infof(format string, v ...any)    { l.writef(slog.LevelDebug, format, v...) }
func (l raftLogger) Warning(v ...any)                 { l.write(slog.LevelDebug, v...) }
func (l raftLogger) Warningf(format string, v ...any) { l.writef(slog.LevelDebug, format, v...) }
func (l raftLogger) Error(v ...any)                   { l.write(slog.LevelError, v...) }
func (l raftLogger) Errorf(format string, v ...any)   { l.writef(slog.LevelError, format, v...) }
func (l raftLogger) Fatal(v ...any)                   { panic(fmt.Sprint(v...)) }
func (l raftLogger) Fatalf(format string, v ...any)   { panic(fmt.Sprintf(format, v...)) }
func (l raftLogger) Panic(v ...any)                   { panic(fmt.Sprint(v...)) }
func (l raftLogger) Panicf(format string, v ...any)   { panic(fmt.Sprintf(format, v...)) }
