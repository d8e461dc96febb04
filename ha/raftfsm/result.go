package raftfsm

import (
	"context"
	"errors"
	"fmt"
)

// How a result begins as bytes; the rest is its content.
const (
	resultBytes  = 1 // a []byte
	resultString = 2 // a string
	resultError  = 3 // the text of an error
	resultOther  = 4 // the type of one that has no bytes
)

// Encode is how results travel by default: []byte, string and error as they are, and nil as nothing. Of any other the type is told: it has an effect as every other, and only who
// asks from another process gets a *[ResultError] instead of it.
func Encode(result any) []byte {
	switch r := result.(type) {
	case nil:
		return nil
	case []byte:
		return append([]byte{resultBytes}, r...)
	case string:
		return append([]byte{resultString}, r...)
	case error:
		return append([]byte{resultError}, r.Error()...)
	}
	return fmt.Appendf([]byte{resultOther}, "%T", result)
}

// A ResultError is a result: an error that Apply has returned in another process, by its text, or one that says why its result cannot be had.
type ResultError struct{ Text string }

func (e *ResultError) Error() string { return e.Text }

// errResult says that an answer is none that Encode has made.
var errResult = errors.New("raftfsm: the answer is not a result: does Config.Encode differ?")

// Decode makes of an answer, of [ha.Node.Call] and the like, what [Encode] has made it of.
func Decode(answer []byte) (result any, err error) {
	if len(answer) == 0 {
		return nil, nil
	}
	switch content := answer[1:]; answer[0] {
	case resultBytes:
		return content, nil
	case resultString:
		return string(content), nil
	case resultError:
		return &ResultError{string(content)}, nil
	case resultOther:
		return &ResultError{fmt.Sprintf("raftfsm: a result of type %s has no bytes; set Config.Encode", content)}, nil
	}
	return nil, errResult
}

// A Caller is a *[ha.Node], on any member, or a *[client.Client].
type Caller interface {
	Call(ctx context.Context, data []byte) ([]byte, error)
}

// Call carries a command to the Active, on whichever member it is called, and returns the result of the FSM there; a *[ResultError] for an error of its. The command takes
// effect once, through failovers. The members must have neither ha.Config.Handle nor [Config.Encode]. The errors are those of Call.
func Call(ctx context.Context, c Caller, command []byte) (result any, err error) {
	answer, err := c.Call(ctx, command)
	if err != nil {
		return nil, err
	}
	return Decode(answer)
}
