//go:build linux

package state

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/ha"
)

const (
	maxLine  = 1 << 20 // bytes of a line of the program
	maxBatch = 1 << 20 // bytes that are appended at once, and a line more
)

// A Pipe speaks with a program, for the time of one role, in lines of JSON. First it tells the records that there are, then that the program is Active;
// then the program writes requests and gets an answer to each, in their order.
type Pipe struct {
	Node    Appender
	Token   fence.Token
	Machine *Machine
	Max     int64                                     // bytes of all records, and 64 besides for each
	Commit  func(ctx context.Context) (uint64, error) // of the directory; nil: there is none
	Report  func(nonsense string)                     // told of the first line that is no request

	out      *bufio.Writer
	json     *json.Encoder // to out
	part     int           // of a snapshot that goes on: the last
	bytes    int64         // of its parts
	reported bool
}

// A told is a record as the program is told it.
type told struct {
	Index    uint64          `json:"index"`
	Record   json.RawMessage `json:"record,omitempty"`
	Snapshot json.RawMessage `json:"snapshot,omitempty"`
	Part     int             `json:"part,omitempty"`
	More     bool            `json:"more,omitempty"`
}

// An active is what the program is told when it has all records.
type active struct {
	Active fence.Token `json:"active"`
	Epoch  uint64      `json:"epoch"`
	Name   string      `json:"name"`
}

// A request is what the program says: one of record, snapshot and commit.
type request struct {
	ID       json.RawMessage `json:"id"`
	Record   json.RawMessage `json:"record"`
	Snapshot json.RawMessage `json:"snapshot"`
	Part     int             `json:"part"` // of a snapshot in several: 1, 2, 3 …
	More     bool            `json:"more"` // it is not the last
	Commit   bool            `json:"commit"`
}

// An answer is to one request.
type answer struct {
	ID    json.RawMessage `json:"id,omitempty"`
	Index uint64          `json:"index,omitempty"`
	Error string          `json:"error,omitempty"`
	Text  string          `json:"text,omitempty"`
}

// A refusal is an answer that is an error, by its code.
type refusal struct{ code, text string }

func (r *refusal) Error() string { return r.code + ": " + r.text }

// Run speaks with the program until it ends its output, which is no error, or the pipes are closed.
func (p *Pipe) Run(ctx context.Context, from io.Reader, to io.Writer) error {
	p.out = bufio.NewWriterSize(to, 1<<16)
	p.json = json.NewEncoder(p.out)
	p.json.SetEscapeHTML(false)
	records, _ := p.Machine.recordsNow()
	for i, r := range records {
		t := told{Index: r.index, Snapshot: r.value}
		switch r.kind {
		case kindRecord:
			t = told{Index: r.index, Record: r.value}
		case kindFirst, kindPart, kindLast:
			t.Part, t.More = i+1, r.kind != kindLast
		}
		if err := p.say(t); err != nil {
			return err
		}
	}
	if err := p.say(active{p.Token, p.Token.Epoch, p.Token.Holder}); err != nil {
		return err
	}
	in := bufio.NewReaderSize(from, 1<<16)
	for {
		if err := p.out.Flush(); err != nil {
			return err
		}
		err := p.turn(ctx, in)
		if errors.Is(err, io.EOF) {
			return p.out.Flush()
		}
		if err != nil {
			return err
		}
	}
}

func (p *Pipe) say(v any) error { return p.json.Encode(v) }

// turn takes a request, and those that have come with it, and answers them. What is appended at once is in the log in this order, all or
// nothing.
func (p *Pipe) turn(ctx context.Context, in *bufio.Reader) error {
	var t turn
	for more := true; more && t.bytes < maxBatch; more = another(in) {
		line, long, err := readLine(in)
		if err != nil {
			return errors.Join(p.append(ctx, &t), err)
		}
		r, err := p.parse(line, long)
		if err == nil && (r.Commit || !p.fits(r, t.bytes)) {
			if err := p.append(ctx, &t); err != nil { // there may be more room behind a snapshot
				return err
			}
		}
		var index uint64
		var record []byte
		if err == nil && r.Commit {
			index, err = p.Commit(ctx)
		} else if err == nil {
			record, err = p.encode(r)
		}
		t.answers = append(t.answers, answerTo(r, index, err))
		if record != nil {
			t.add(record)
		}
	}
	return p.append(ctx, &t)
}

// A turn is some requests, not answered yet.
type turn struct {
	answers []answer // to all
	records [][]byte
	which   []int // of the answers belongs to each record
	bytes   int64
}

// add adds a record, whose answer is the last.
func (t *turn) add(record []byte) {
	t.which = append(t.which, len(t.answers)-1)
	t.records = append(t.records, record)
	t.bytes += int64(len(record)) + overhead
}

// append appends the records of a turn and answers all of it.
func (p *Pipe) append(ctx context.Context, t *turn) error {
	if len(t.records) > 0 {
		r, err := p.Node.AppendBatch(ctx, p.Token, t.records...)
		if errors.Is(err, ha.ErrAnswerLost) {
			err = nil
		}
		if err != nil {
			p.part = 0 // what follows a part that is not there is refused
		}
		for i, which := range t.which {
			a := &t.answers[which]
			*a = answerTo(request{ID: a.ID}, r.Index+uint64(i), err)
		}
	}
	for _, a := range t.answers {
		if err := p.say(a); err != nil {
			return err
		}
	}
	*t = turn{}
	return nil
}

// parse makes a request of a line.
func (p *Pipe) parse(line []byte, long bool) (r request, err error) {
	if long {
		return r, &refusal{"too-large", fmt.Sprintf("the line has more than %d bytes", maxLine)}
	}
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	err = d.Decode(&r)
	if err == nil && d.InputOffset() != int64(len(bytes.TrimRight(line, " \t\r"))) {
		err = errors.New("there is something behind the object")
	}
	ways := 0
	for _, there := range []bool{r.Record != nil, r.Snapshot != nil, r.Commit} {
		if there {
			ways++
		}
	}
	switch {
	case err != nil:
	case ways != 1:
		err = errors.New("it has not one of record, snapshot and commit")
	case (r.More || r.Part != 0) && r.Snapshot == nil || r.Part < 0:
		err = errors.New("part, 1 or more, and more belong to a snapshot")
	case r.Commit && p.Commit == nil:
		err = errors.New("no directory is replicated")
	}
	if err == nil {
		return r, nil
	}
	if !p.reported {
		p.reported = true
		p.Report(string(line[:min(len(line), 200)]))
	}
	return request{ID: r.ID}, &refusal{"bad-line", err.Error()}
}

// fits reports whether there is room for a request behind so many bytes that wait.
func (p *Pipe) fits(r request, waiting int64) bool {
	_, bytes := p.Machine.recordsNow()
	return r.Record == nil || bytes+waiting+int64(len(r.Record))+overhead <= p.Max
}

// encode makes a record of a request, if it may be appended.
func (p *Pipe) encode(r request) ([]byte, error) {
	if r.Record != nil {
		if !p.fits(r, 0) {
			return nil, &refusal{"full", fmt.Sprintf("all records have more than %d bytes: write a snapshot", p.Max)}
		}
		p.part = 0
		return append([]byte{kindRecord}, r.Record...), nil
	}
	first, last := r.Part <= 1, p.part
	if p.part = 0; first {
		last, p.bytes = 0, 0
	}
	if p.bytes += int64(len(r.Snapshot)) + overhead; p.bytes > p.Max {
		return nil, &refusal{"full", fmt.Sprintf("the snapshot has more than %d bytes", p.Max)}
	}
	if !first && r.Part != last+1 {
		return nil, &refusal{"no-part", fmt.Sprintf("part %d does not follow on a part %d that was taken, with no record between", r.Part, r.Part-1)}
	}
	kind := byte(kindPart)
	switch {
	case first && !r.More:
		kind = kindSnapshot
	case first:
		kind = kindFirst
	case !r.More:
		kind = kindLast
	}
	if r.More {
		p.part = max(r.Part, 1)
	}
	return append([]byte{kind}, r.Snapshot...), nil
}

// codes are the errors of an append that a program can do something about. Others are failed.
var codes = []struct {
	err  error
	code string
}{
	{ErrTooLarge, "too-large"}, {ha.ErrUnknown, "unknown"}, {ha.ErrFenced, "not-active"}, {ha.ErrNotActive, "not-active"}, {ha.ErrNoRoom, "no-room"}, {ha.ErrBusy, "busy"},
}

func answerTo(r request, index uint64, err error) answer {
	var refused *refusal
	switch a := (answer{ID: r.ID}); {
	case err == nil:
		a.Index = index
		return a
	case errors.As(err, &refused):
		a.Error, a.Text = refused.code, refused.text
		return a
	default:
		a.Error, a.Text = Code(err), err.Error()
		return a
	}
}

// Code is the code of an error of [Files.Commit] or an append: too-large, unknown, not-active, no-room, busy; or failed.
func Code(err error) string {
	for _, c := range codes {
		if errors.Is(err, c.err) {
			return c.code
		}
	}
	return "failed"
}

// another reports whether one more line is there already.
func another(in *bufio.Reader) bool {
	b, err := in.Peek(in.Buffered())
	return err == nil && bytes.IndexByte(b, '\n') >= 0
}

// readLine reads a line; one that is too long is read and not kept. What has no end is none.
func readLine(in *bufio.Reader) (line []byte, long bool, err error) {
	for {
		b, err := in.ReadSlice('\n')
		switch {
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return nil, false, err
		case len(line)+len(b) > maxLine+1:
			line, long = nil, true
		case !long:
			line = append(line, b...)
		}
		if err == nil {
			return bytes.TrimSuffix(line, []byte("\n")), long, nil
		}
	}
}
