package wire

import (
	"encoding/binary"
	"fmt"
	"time"
)

// A Worker is what a program that is no member says of itself, again and again. An empty message answers each.
type Worker struct {
	Name  string
	Addr  string
	Text  string
	Every time.Duration // until the next at the latest
	Leave bool          // this is its last word
}

// Bounds of what a worker says of itself, in bytes of each text, and of the message; and of how often it does.
const (
	MaxWorkerText  = 1 << 10
	MaxWorker      = workerHead + 3*(2+MaxWorkerText) + 256 // what is beyond that is a later version's
	MaxWorkerEvery = 24 * time.Hour
)

// Messages of a worker; numbers are big-endian. What follows is a later version's, and is let be.
//
//	1, uint8 flags (1: it leaves), uint64 nanoseconds until the next, and for each of name, address and text: uint16 length, bytes
const (
	workerSays   = 1
	workerHead   = 1 + 1 + 8
	workerLeaves = 1
)

// Encode returns the message. It fails where a text is too long or the time out of bounds.
func (w Worker) Encode() ([]byte, error) {
	if w.Every <= 0 || w.Every > MaxWorkerEvery {
		return nil, fmt.Errorf("%w: every %v", ErrMalformed, w.Every)
	}
	flags := byte(0)
	if w.Leave {
		flags |= workerLeaves
	}
	b := binary.BigEndian.AppendUint64([]byte{workerSays, flags}, uint64(w.Every))
	for _, text := range [...]string{w.Name, w.Addr, w.Text} {
		if len(text) > MaxWorkerText {
			return nil, fmt.Errorf("%w: a text is longer than %d bytes", ErrMalformed, MaxWorkerText)
		}
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(text))), text...)
	}
	return b, nil
}

// ParseWorker reads the message.
func ParseWorker(b []byte) (Worker, error) {
	malformed := fmt.Errorf("%w: %d bytes are not what a worker says", ErrMalformed, len(b))
	if len(b) < workerHead || b[0] != workerSays {
		return Worker{}, malformed
	}
	w := Worker{Leave: b[1]&workerLeaves != 0, Every: time.Duration(binary.BigEndian.Uint64(b[2:]))}
	b = b[workerHead:]
	for _, text := range [...]*string{&w.Name, &w.Addr, &w.Text} {
		if len(b) < 2 {
			return Worker{}, malformed
		}
		size := 2 + int(binary.BigEndian.Uint16(b))
		if len(b) < size || size > 2+MaxWorkerText {
			return Worker{}, malformed
		}
		*text, b = string(b[2:size]), b[size:]
	}
	if w.Every <= 0 || w.Every > MaxWorkerEvery {
		return Worker{}, malformed
	}
	return w, nil
}
