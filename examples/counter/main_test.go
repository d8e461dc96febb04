package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"testing"

	"github.com/baton-ha/baton/examples/internal/demo/demotest"
	"github.com/baton-ha/baton/ha"
)

func TestDemo(t *testing.T) { demotest.Run(t) }

// apply appends increments as the log would.
func apply(t *testing.T, c *counter, ins ...increment) {
	t.Helper()
	_, index := c.value()
	for _, in := range ins {
		index++
		if err := c.Apply([]ha.Entry{{Index: index, Epoch: 1, Data: in.encode()}}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCountsOnce(t *testing.T) {
	c := newCounter()
	apply(t, c,
		increment{N: 1}, increment{N: 1}, // without an id they are two
		increment{N: 5, Client: "x", Seq: 1}, increment{N: 5, Client: "x", Seq: 1},
		increment{N: 7, Client: "y", Seq: 1},
		increment{N: -2, Client: "x", Seq: 2}, increment{N: 5, Client: "x", Seq: 1},
	)
	if v, index := c.value(); v != 12 || index != 7 {
		t.Errorf("value %d after record %d, want 12 after 7", v, index)
	}
	if got, want := c.client("x"), (tally{Seq: 2, Sum: 3}); got != want {
		t.Errorf("client x: %+v, want %+v", got, want)
	}
}

func TestRemembersBoundedly(t *testing.T) {
	c := newCounter()
	for i := range 5 * maxClients {
		apply(t, c, increment{N: 1, Client: fmt.Sprint(i), Seq: 1})
	}
	if n := len(c.state.Recent) + len(c.state.Before); n > 2*maxClients {
		t.Errorf("%d clients are remembered", n)
	}
	last := fmt.Sprint(5*maxClients - maxClients)
	apply(t, c, increment{N: 1, Client: last, Seq: 1})
	if v, _ := c.value(); v != 5*maxClients {
		t.Errorf("one of the last %d clients was forgotten", maxClients)
	}
}

func TestSnapshot(t *testing.T) {
	c := newCounter()
	apply(t, c, increment{N: 5, Client: "x", Seq: 1}, increment{N: 2})
	s, err := c.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	apply(t, c, increment{N: 100}) // not in the snapshot
	var b bytes.Buffer
	if _, err := s.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	back := newCounter()
	apply(t, back, increment{N: 99, Client: "z", Seq: 9}) // replaced
	if err := back.Restore(&b); err != nil {
		t.Fatal(err)
	}
	if v, index := back.value(); v != 7 || index != 2 {
		t.Errorf("restored: %d after record %d", v, index)
	}
	apply(t, back, increment{N: 100}, increment{N: 5, Client: "x", Seq: 1})
	apply(t, c, increment{N: 5, Client: "x", Seq: 1})
	if !reflect.DeepEqual(back.state.Recent, c.state.Recent) || back.state.Value != 107 || c.state.Value != 107 {
		t.Errorf("restored and original differ: %+v, %+v", back.state, c.state)
	}
}

func TestApplyRefusesForeignRecords(t *testing.T) {
	if err := newCounter().Apply([]ha.Entry{{Index: 1, Data: []byte("?")}}); err == nil {
		t.Error("no error")
	}
}

func TestParseAdd(t *testing.T) {
	for query, want := range map[string]*increment{
		"":                       {N: 1},
		"n=-5":                   {N: -5},
		"n=2&id=me/7":            {N: 2, Client: "me", Seq: 7},
		"n=x":                    nil,
		"id=me":                  nil,
		"id=me/0":                nil,
		"id=/1":                  nil,
		"id=me/-1":               nil,
		"n=99999999999999999999": nil,
	} {
		q, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		got, err := parseAdd(q)
		if (err == nil) != (want != nil) || want != nil && got != *want {
			t.Errorf("%q: %+v, %v", query, got, err)
		}
	}
}

func TestRefuse(t *testing.T) {
	for _, c := range []struct {
		err  error
		code int
	}{
		{ha.ErrFenced, http.StatusConflict},
		{&ha.NotActiveError{Active: "b"}, http.StatusServiceUnavailable},
		{ha.ErrBusy, http.StatusServiceUnavailable},
		{ha.ErrClosed, http.StatusServiceUnavailable},
		{fmt.Errorf("%w: %w", ha.ErrUnknown, errors.New("timeout")), http.StatusGatewayTimeout},
		{ha.ErrTooLarge, http.StatusRequestEntityTooLarge},
	} {
		w := httptest.NewRecorder()
		refuse(w, c.err)
		if w.Code != c.code {
			t.Errorf("%v: %d, want %d", c.err, w.Code, c.code)
		}
	}
}

func TestNoteKeepsTheNewestRecord(t *testing.T) {
	s := &script{first: map[uint64]ack{}}
	for _, a := range []ack{{Index: 7, Epoch: 1}, {Index: 9, Epoch: 2}, {Index: 8, Epoch: 2}, {Index: 6, Epoch: 1}} {
		s.note(a)
	}
	if s.last.Index != 9 || s.first[1].Index != 7 || s.first[2].Index != 9 {
		t.Errorf("newest %+v, first of each epoch %+v", s.last, s.first)
	}
}
