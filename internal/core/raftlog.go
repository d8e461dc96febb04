package core

import (
	"fmt"
	"strings"
)

// A Logger takes what raft says. Raft is talkative: its news are of use only to someone who debugs raft.
type Logger interface {
	Debugf(format string, v ...any)
	Errorf(format string, v ...any)
}

// A raftLogger lets raft write to a Logger. What raft calls fatal or a panic becomes a panic, which Step turns into
// an error.
type raftLogger struct{ to Logger }

func (l raftLogger) debug(format string, v ...any) {
	if l.to != nil {
		l.to.Debugf(format, v...)
	}
}

func (l raftLogger) fail(format string, v ...any) {
	if l.to != nil {
		l.to.Errorf(format, v...)
	}
}

// plain is a format for values as fmt.Sprint writes them: raft gives strings here.
func plain(v []any) string { return strings.Repeat("%v", len(v)) }

func (l raftLogger) Debug(v ...any)                   {}
func (l raftLogger) Debugf(format string, v ...any)   {}
func (l raftLogger) Info(v ...any)                    { l.debug(plain(v), v...) }
func (l raftLogger) Infof(format string, v ...any)    { l.debug(format, v...) }
func (l raftLogger) Warning(v ...any)                 { l.debug(plain(v), v...) }
func (l raftLogger) Warningf(format string, v ...any) { l.debug(format, v...) }
func (l raftLogger) Error(v ...any)                   { l.fail(plain(v), v...) }
func (l raftLogger) Errorf(format string, v ...any)   { l.fail(format, v...) }
func (l raftLogger) Fatal(v ...any)                   { panic(fmt.Sprint(v...)) }
func (l raftLogger) Fatalf(format string, v ...any)   { panic(fmt.Sprintf(format, v...)) }
func (l raftLogger) Panic(v ...any)                   { panic(fmt.Sprint(v...)) }
func (l raftLogger) Panicf(format string, v ...any)   { panic(fmt.Sprintf(format, v...)) }
