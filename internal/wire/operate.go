package wire

import (
	"encoding/binary"
	"fmt"
)

// This file is what operators and tools ask of one member. Numbers are big-endian, and not used again; what follows in a
// request is a later version's, and is let be.
//
//	kind report: what a member says of itself; clients, operators and members ask
//	  request  1, uint8 what, uint8 flags: 1 goes on with what comes
//	  answer   any number of messages, each a JSON value, and the end
//	kind command: an operator wants something of this member itself, or a member does on behalf of one
//	  request  1, uint8 what, uint16 length, text
//	  answer   a ChangeAnswer, and the end
//	kind append: an operator appends a record
//	  request  1, bytes
//	  answer   2, uint8 outcome, uint64 index, uint64 epoch, text, and the end
//	kind backup: an operator wants a backup of this member
//	  request  1
//	  answer   the backup, as bytes and not as messages, and the end
const (
	KindReport  = "report"
	KindCommand = "command"
	KindAppend  = "append"
	KindBackup  = "backup"
)

// A Report is what is asked for.
type Report uint8

// What can be asked for.
const (
	ReportStatus Report = iota + 1 // one message: {"status": , "members": , "cluster": , "time": }
	ReportStats                    // one message
	ReportEvents                   // one message for each event, those of earlier processes that are kept first
	ReportEpochs                   // one message for each epoch, oldest first
)

const (
	operateRequest = 1
	operateAnswer  = 2

	// ReportFollow asks to go on with what comes.
	ReportFollow = 1

	// MaxReportRequest and MaxReport bound the messages of a report, in bytes.
	MaxReportRequest = 1 << 10
	MaxReport        = 4 << 20
)

// A ReportRequest asks for a report.
type ReportRequest struct {
	What   Report
	Follow bool
}

// Encode returns the message.
func (q ReportRequest) Encode() []byte {
	flags := byte(0)
	if q.Follow {
		flags = ReportFollow
	}
	return []byte{operateRequest, byte(q.What), flags}
}

// ParseReportRequest reads a request.
func ParseReportRequest(b []byte) (ReportRequest, error) {
	if len(b) < 3 || b[0] != operateRequest {
		return ReportRequest{}, fmt.Errorf("%w: %d bytes ask for no report", ErrMalformed, len(b))
	}
	return ReportRequest{What: Report(b[1]), Follow: b[2]&ReportFollow != 0}, nil
}

// A CommandOp is what a member is to do.
type CommandOp uint8

// What can be wanted.
const (
	CommandHandOver CommandOp = iota + 1 // the Active gives its role to another
	CommandTakeOver                      // a standby asks for the role
	CommandStayAway                      // the text says why
	CommandComeBack
)

func (o CommandOp) String() string {
	switch o {
	case CommandHandOver:
		return "hand over"
	case CommandTakeOver:
		return "become Active"
	case CommandStayAway:
		return "stay away"
	case CommandComeBack:
		return "come back"
	}
	return fmt.Sprintf("command %d", uint8(o))
}

// A Command is a request of an operator.
type Command struct {
	Op   CommandOp
	Text string // at most MaxCommandText bytes
}

// Bounds in bytes.
const (
	MaxCommandText = 1 << 10
	MaxCommand     = MaxCommandText + 64
)

const commandHead = 1 + 1 + 2

// Encode returns the message of a command. It fails where the text is too long.
func (c Command) Encode() ([]byte, error) {
	if len(c.Text) > MaxCommandText {
		return nil, fmt.Errorf("%w: a text is longer than %d bytes", ErrMalformed, MaxCommandText)
	}
	b := binary.BigEndian.AppendUint16([]byte{operateRequest, byte(c.Op)}, uint16(len(c.Text)))
	return append(b, c.Text...), nil
}

// ParseCommand reads a command.
func ParseCommand(b []byte) (Command, error) {
	if len(b) < commandHead || b[0] != operateRequest {
		return Command{}, fmt.Errorf("%w: %d bytes are no command", ErrMalformed, len(b))
	}
	size := int(binary.BigEndian.Uint16(b[2:]))
	if size > MaxCommandText || len(b) < commandHead+size {
		return Command{}, fmt.Errorf("%w: %d bytes are no command", ErrMalformed, len(b))
	}
	return Command{Op: CommandOp(b[1]), Text: string(b[commandHead : commandHead+size])}, nil
}

// Bounds of the messages of appends, in bytes.
const (
	MaxAppend       = 1 << 20 // of a record
	MaxAppendAnswer = 8 << 10
)

const appendAnswerHead = 1 + 1 + 8 + 8

// AppendRequest returns the message that asks for a record to be appended.
func AppendRequest(record []byte) []byte { return append([]byte{operateRequest}, record...) }

// ParseAppendRequest reads a request. The record shares its memory.
func ParseAppendRequest(b []byte) (record []byte, err error) {
	if len(b) < 1 || b[0] != operateRequest {
		return nil, fmt.Errorf("%w: %d bytes ask for no append", ErrMalformed, len(b))
	}
	return b[1:], nil
}

// An AppendAnswer says what has become of a record.
type AppendAnswer struct {
	Outcome Outcome // Moved: the member is not Active, and Text is who is
	Index   uint64
	Epoch   uint64
	Text    string
}

// Encode returns the message of an answer.
func (a AppendAnswer) Encode() []byte {
	b := binary.BigEndian.AppendUint64([]byte{operateAnswer, byte(a.Outcome)}, a.Index)
	b = binary.BigEndian.AppendUint64(b, a.Epoch)
	return append(b, a.Text[:min(len(a.Text), MaxAppendAnswer-appendAnswerHead)]...)
}

// ParseAppendAnswer reads an answer.
func ParseAppendAnswer(b []byte) (AppendAnswer, error) {
	if len(b) < appendAnswerHead || b[0] != operateAnswer {
		return AppendAnswer{}, fmt.Errorf("%w: %d bytes are no answer to an append", ErrMalformed, len(b))
	}
	return AppendAnswer{Outcome: Outcome(b[1]), Index: binary.BigEndian.Uint64(b[2:]), Epoch: binary.BigEndian.Uint64(b[10:]), Text: string(b[appendAnswerHead:])}, nil
}

// MaxBackupRequest bounds the request of a backup, in bytes, and BackupRequest is it.
const MaxBackupRequest = 1 << 10

// BackupRequest returns the message that asks for a backup.
func BackupRequest() []byte { return []byte{operateRequest} }

// ParseBackupRequest reads a request.
func ParseBackupRequest(b []byte) error {
	if len(b) < 1 || b[0] != operateRequest {
		return fmt.Errorf("%w: %d bytes ask for no backup", ErrMalformed, len(b))
	}
	return nil
}
