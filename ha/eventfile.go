package ha

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/baton-ha/baton/storage"
)

// This file is where events outlive the process: two files of lines of JSON, of which the second is begun anew when it is full and
// then becomes the first. They are not synced: they outlive the process, and after a power cut the last seconds may be missing.

const (
	eventFile    = "events.jsonl"
	eventFileOld = "events.old.jsonl"
	maxEventFile = 1 << 20 // bytes of each
	maxEventLine = 64 << 10
)

// problemEvents is the kind of problem of events that cannot be written.
const problemEvents = "events"

// keepEvents writes the events until the node has ended and everything is written. It has a goroutine of its own, so that a disk that stands
// still holds up nobody.
func (n *Node) keepEvents() {
	dir, again := filepath.Join(n.cfg.Dir, storage.EventsDir), time.Duration(0)
	for ended := false; ; {
		_, more := n.events.after(0)
		var retry <-chan time.Time
		if err := n.events.write(dir); err != nil {
			n.problem("", problemEvents, fmt.Errorf("baton: write events: %w", err))
			again = min(max(2*again, minEventRetry), maxEventRetry)
			retry, more = time.After(again), nil
		} else {
			n.problem("", problemEvents, nil)
			again = 0
		}
		if ended {
			return
		}
		select {
		case <-retry:
		case <-more:
			select { // what comes together is written together
			case <-time.After(eventPause):
			case <-n.ended:
			}
		case <-n.ended:
			ended = true
		}
	}
}

const eventPause = 20 * time.Millisecond

// Between two attempts to write what could not be written.
const (
	minEventRetry = time.Second
	maxEventRetry = time.Minute
)

// write writes what waits. What could not be written waits on, as far as there is room.
func (r *recorder) write(dir string) error {
	r.mu.Lock()
	waiting, dropped := r.waiting, r.dropped
	r.waiting, r.dropped = nil, 0
	r.mu.Unlock()
	if len(waiting) == 0 {
		return nil
	}
	var b bytes.Buffer
	for _, e := range waiting {
		line, err := json.Marshal(e)
		if err != nil {
			return err
		}
		b.Write(append(line, '\n'))
	}
	if err := appendEvents(dir, b.Bytes()); err != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.waiting, r.dropped = append(waiting, r.waiting...), r.dropped+dropped
		if more := len(r.waiting) - maxEvents; more > 0 {
			r.waiting, r.dropped = r.waiting[more:], r.dropped+uint64(more)
		}
		return err
	}
	if dropped > 0 {
		return fmt.Errorf("%d events were not written: the disk is too slow", dropped)
	}
	return nil
}

// appendEvents appends lines to the newer file, after it has changed places with the older one if it is full.
func appendEvents(dir string, lines []byte) (err error) {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	path := filepath.Join(dir, eventFile)
	if info, err := os.Stat(path); err == nil && info.Size()+int64(len(lines)) > maxEventFile {
		if err := os.Rename(path, filepath.Join(dir, eventFileOld)); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	if _, err = f.Write(lines); err != nil {
		err = errors.Join(err, f.Truncate(info.Size())) // they are written again
	}
	return errors.Join(err, f.Close())
}

// readEvents reads the events in a member's directory. A line that was not written wholly is passed over.
func readEvents(dir string) (events []Event, err error) {
	found := false
	for _, name := range []string{eventFileOld, eventFile} {
		f, err := os.Open(filepath.Join(dir, storage.EventsDir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		found = true
		lines := bufio.NewScanner(f)
		lines.Buffer(nil, maxEventLine)
		for lines.Scan() {
			var e Event
			if json.Unmarshal(lines.Bytes(), &e) == nil && e.Seq > 0 {
				events = append(events, e)
			}
		}
		if err := errors.Join(lines.Err(), f.Close()); err != nil {
			return nil, err
		}
	}
	if !found {
		return nil, fmt.Errorf("no events in %s: %w", dir, fs.ErrNotExist)
	}
	return events, nil
}
