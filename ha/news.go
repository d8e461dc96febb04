package ha

import (
	"encoding/binary"
	"errors"
	"strings"
	"time"
)

// This file is what members tell each other of themselves, beside raft: how each is, what is in its way, how far it is.

// News is what a member says of itself. Times in it are lengths, since clocks differ.
type news struct {
	leaving        bool // it is closed in good order, and this is its last word
	obeys          bool // members may command it
	state          State
	epoch          uint64
	index, applied uint64
	every          time.Duration // until the next at the latest
	obstacles      []newsObstacle

	newsMore // which versions of the beginning do not say
}

type newsMore struct {
	lag      time.Duration // in which records may have been acknowledged that are not applied there
	protocol uint16        // the version that it speaks, 0: not known
	program  string        // the version of its program
}

type newsObstacle struct {
	kind  ObstacleKind
	text  string
	stood time.Duration // for how long; 0: not known
	left  time.Duration // until it ends; 0: not known
}

// Bounds of news. What is longer is cut, by who says it.
const (
	newsVersion      = 1
	newsHead         = 36
	maxNewsObstacles = 16
	maxNewsKind      = 32
	maxNewsText      = 256
	maxNewsProgram   = 128
	newsMoreHead     = 8 + 2 + 1
	maxNews          = newsHead + maxNewsObstacles*(1+maxNewsKind+16+2+maxNewsText) + newsMoreHead + maxNewsProgram + newsToCome
	newsToCome       = 1 << 10 // of later versions
)

// Flags.
const (
	newsLeaving = 1
	newsObeys   = 2
)

// encode appends the news. DESIGN.md, "News", has the format.
func (s *news) encode(b []byte) []byte {
	var flags byte
	if s.leaving {
		flags |= newsLeaving
	}
	if s.obeys {
		flags |= newsObeys
	}
	b = append(b, newsVersion, flags, byte(s.state))
	for _, v := range [...]uint64{s.epoch, s.index, s.applied, uint64(s.every)} {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	obstacles := s.obstacles[:min(len(s.obstacles), maxNewsObstacles)]
	b = append(b, byte(len(obstacles)))
	for _, o := range obstacles {
		kind, text := o.kind[:min(len(o.kind), maxNewsKind)], strings.ToValidUTF8(o.text[:min(len(o.text), maxNewsText)], "")
		b = append(b, byte(len(kind)))
		b = append(b, kind...)
		b = binary.BigEndian.AppendUint64(b, uint64(o.stood))
		b = binary.BigEndian.AppendUint64(b, uint64(o.left))
		b = binary.BigEndian.AppendUint16(b, uint16(len(text)))
		b = append(b, text...)
	}
	program := strings.ToValidUTF8(s.program[:min(len(s.program), maxNewsProgram)], "")
	b = binary.BigEndian.AppendUint64(b, uint64(s.lag))
	b = binary.BigEndian.AppendUint16(b, s.protocol)
	return append(append(b, byte(len(program))), program...)
}

// errNews is the error of news that are none.
var errNews = errors.New("baton: malformed news")

// decodeNews reads news. What follows them is a later version's, and is let be.
func decodeNews(b []byte) (s news, err error) {
	if len(b) < newsHead || b[0] != newsVersion {
		return s, errNews
	}
	word := func(at int) uint64 { return binary.BigEndian.Uint64(b[at:]) }
	s = news{leaving: b[1]&newsLeaving != 0, obeys: b[1]&newsObeys != 0, state: State(b[2]), epoch: word(3), index: word(11), applied: word(19), every: time.Duration(word(27))}
	count := int(b[35])
	if s.every <= 0 || s.every > maxEvery || count > maxNewsObstacles {
		return s, errNews
	}
	for b = b[newsHead:]; count > 0; count-- {
		if len(b) < 1 || int(b[0]) > maxNewsKind || len(b) < 1+int(b[0])+18 {
			return s, errNews
		}
		kind := ObstacleKind(b[1 : 1+b[0]])
		b = b[1+b[0]:]
		o := newsObstacle{kind: kind, stood: time.Duration(word(0)), left: time.Duration(word(8))}
		size := int(binary.BigEndian.Uint16(b[16:]))
		if o.stood < 0 || o.left < 0 || size > maxNewsText || len(b) < 18+size {
			return s, errNews
		}
		o.text = strings.ToValidUTF8(string(b[18:18+size]), "")
		s.obstacles = append(s.obstacles, o)
		b = b[18+size:]
	}
	if len(b) == 0 { // of a version that says no more
		return s, nil
	}
	if len(b) < newsMoreHead || len(b) < newsMoreHead+int(b[10]) || int(b[10]) > maxNewsProgram || time.Duration(word(0)) < 0 {
		return s, errNews
	}
	s.lag, s.protocol = time.Duration(word(0)), binary.BigEndian.Uint16(b[8:])
	s.program = strings.ToValidUTF8(string(b[newsMoreHead:newsMoreHead+int(b[10])]), "")
	return s, nil
}

// maxEvery bounds what is believed of how often a member says something.
const maxEvery = 31 * 24 * time.Hour

// here is what they say of obstacles, on this member's clock.
func (s *news) here(now time.Duration) []obstacle {
	var list []obstacle
	if s.leaving {
		list = append(list, obstacle{kind: ObstacleSilent, since: now, text: "it has left"})
	}
	for _, o := range s.obstacles {
		x := obstacle{kind: o.kind, text: o.text}
		if o.stood > 0 && o.stood < now {
			x.since = now - o.stood
		}
		if o.left > 0 {
			x.until = now + min(o.left, maxEvery)
		}
		list = append(list, x)
	}
	return list
}
