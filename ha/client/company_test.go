package client

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/baton-ha/baton/internal/wire"
)

// message is a message of records, whose bytes are size each.
func message(first uint64, count, size int) ([]byte, wire.Tail) {
	b := wire.BeginRecords(nil, 3, first)
	for i := range count {
		b = wire.AppendRecord(b, bytes.Repeat([]byte{byte(first) + byte(i)}, size))
	}
	wire.EndRecords(b, count)
	m, err := wire.ParseTail(b, nil)
	if err != nil {
		panic(err)
	}
	return b, m
}

// A tail joins at the record that it wants next, also in the middle of a page (the planted bug "page-again" gives all of it), where the feed has or will have that.
func TestJoin(t *testing.T) {
	y := &company{}
	p := &page{come: make(chan struct{}), first: 11}
	y.feed = &feed{went: make(chan struct{}, 1), oldest: p, coming: p}
	for _, first := range []uint64{11, 14, 17} {
		b, m := message(first, 3, 2)
		y.put(y.feed, b, m)
	}
	for next, want := range map[uint64]string{
		10: "none", 11: "11 11 12 12 13 13", 13: "13 13", 14: "14 14 15 15 16 16", 18: "18 18 19 19", 20: "to come", 21: "none",
	} {
		got := "none"
		f, p := y.join(next, place{}, true)
		if f != nil {
			got = "to come"
			select {
			case <-p.come:
				var all []byte
				for _, own := range []bool{false, true} {
					all = bytes.Join(p.records(next, nil, own), nil)
				}
				got = strings.Trim(fmt.Sprint(all), "[]")
			default:
			}
		}
		if got != want {
			t.Errorf("who joins at record %d gets %s, should get %s", next, got, want)
		}
	}
	if y.feed.readers != 5 {
		t.Errorf("%d have joined", y.feed.readers)
	}
}

// What a reader holds who has stopped is bounded: the way from there is closed (the planted bug "way-open" leaves it open). Who has the page before the last
// one always gets on, however large that is.
func TestWayIsClosed(t *testing.T) {
	y := &company{tails: 2}
	first := &page{come: make(chan struct{}), first: 1}
	f := &feed{went: make(chan struct{}, 1), oldest: first, coming: first}
	put := func(size int) {
		b, m := message(f.coming.first, 1, size)
		y.put(f, b, m)
	}
	put(feedKept / 2)
	put(feedKept / 4)
	put(2 * feedKept)
	if second := y.next(f, first); second == nil || y.next(f, second) == nil {
		t.Error("the way is closed to what is not far ahead")
	}
	second := first.next
	put(1)
	if y.next(f, first) != nil || y.next(f, second) != nil {
		t.Error("who is far behind is kept what comes")
	}
	if f.oldest.first != 3 {
		t.Errorf("record %d is the first that is kept", f.oldest.first)
	}
	if !y.far(f) {
		t.Error("the feed is not ahead of who has read nothing of what came last")
	}
	for p := f.oldest; p != f.coming; {
		p = y.next(f, p)
	}
	if y.far(f) {
		t.Error("the feed is ahead of who has everything")
	}
	b, m := message(f.coming.first, 1, 1)
	last := f.coming
	y.put(f, b, m)
	if y.tails = 1; y.next(f, last) != nil {
		t.Error("the last tail does not read for itself")
	}
}
