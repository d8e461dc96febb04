// Package upgrade has the tests of what one version leaves to the next: directories and backups that older versions have written, and clusters
// whose members are upgraded one by one while the others run.
package upgrade

import (
	"encoding/binary"
	"hash/fnv"
	"io"
	"sync"

	"github.com/baton-ha/baton/ha"
)

// A Machine is the hash of all records, in their order. Its state is eight bytes, in all versions alike.
type Machine struct {
	mu   sync.Mutex
	hash uint64
}

// Apply implements [ha.StateMachine].
func (m *Machine) Apply(entries []ha.Entry) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range entries {
		h := fnv.New64a()
		_ = binary.Write(h, binary.LittleEndian, []uint64{m.hash, e.Index})
		h.Write(e.Data)
		m.hash = h.Sum64()
	}
	return nil
}

type state [8]byte

func (s state) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(s[:])
	return int64(n), err
}

// Snapshot implements [ha.StateMachine].
func (m *Machine) Snapshot() (io.WriterTo, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var s state
	binary.LittleEndian.PutUint64(s[:], m.hash)
	return s, nil
}

// Restore implements [ha.StateMachine].
func (m *Machine) Restore(r io.Reader) error {
	var s state
	if _, err := io.ReadFull(r, s[:]); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hash = binary.LittleEndian.Uint64(s[:])
	return nil
}

// Value is the hash.
func (m *Machine) Value() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.hash
}
