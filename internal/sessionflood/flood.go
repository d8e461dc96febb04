// Package sessionflood is a hostile caller, for tests: it asks for a great many sessions and makes one call with each.
package sessionflood

import (
	"fmt"

	"github.com/baton-ha/baton/internal/wire"
)

// piece is how many requests are under way at a time.
const piece = 1000

// Run has a number of calls made on a stream to the Active, each in a session of its own. It returns the first session, and how many of
// the calls were answered with each code.
func Run(st wire.CallStream, calls int, data []byte) (first wire.Session, codes map[wire.CallCode]int, err error) {
	codes = map[wire.CallCode]int{}
	replies := wire.NewMessages(st, wire.MaxCallMessage)
	for made := 0; made < calls; made += piece {
		n := min(piece, calls-made)
		var given []wire.Session
		err := exchange(st, replies, n, func(tag uint64) wire.Request { return wire.Request{Op: wire.OpSession, Tag: tag} }, func(r wire.Reply) error {
			if r.Code != wire.CallDone {
				return fmt.Errorf("no session is given: code %d: %s", r.Code, r.Body)
			}
			s, err := wire.ParseSession(r.Body)
			given = append(given, s)
			return err
		})
		if err != nil {
			return first, codes, err
		}
		if made == 0 {
			first = given[0]
		}
		err = exchange(st, replies, n, func(tag uint64) wire.Request {
			return wire.Request{Op: wire.OpCall, Tag: tag, Session: given[tag], Number: 1, Done: 1, Data: data}
		}, func(r wire.Reply) error { codes[r.Code]++; return nil })
		if err != nil {
			return first, codes, err
		}
	}
	return first, codes, nil
}

// exchange sends requests with the tags from 0 on, and hears the reply to each.
func exchange(st wire.CallStream, replies *wire.Messages, n int, request func(tag uint64) wire.Request, heard func(wire.Reply) error) error {
	sent := make(chan error, 1)
	go func() {
		var b []byte
		for tag := range uint64(n) {
			q := request(tag)
			b = q.AppendMessage(b)
		}
		_, err := st.Write(b)
		sent <- err
	}()
	for range n {
		b, err := replies.Next()
		if err != nil {
			return err
		}
		r, err := wire.ParseReply(b)
		if err == nil {
			err = heard(r)
		}
		if err != nil {
			return err
		}
	}
	return <-sent
}
