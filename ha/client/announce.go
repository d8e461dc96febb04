package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/baton-ha/baton/internal/wire"
)

// A Worker is what a program that is no member says of itself.
type Worker struct {
	// Name tells it from others: of two of one name the members list the one that came later. Required.
	Name string
	// Addr is where it is reached, Text whatever else others shall know of it. Each at most 1 KiB, as the name.
	Addr, Text string
	// Every is how often it says so: after one and a half of that it is suspect, after three and a half dead. 0: 1 s. At most a day.
	Every time.Duration
}

// lastWord is how long Announce takes at most to say that the worker leaves.
const lastWord = 200 * time.Millisecond

// Announce tells every member of the cluster that this program is there, again and again, until ctx ends; then it says that it leaves,
// and returns the cause of ctx, or ErrClosed. The members list it (ha.Node.Workers). Members that come later are told too, and those that
// cannot be reached are tried again. It fails at once with what is wrong with w. A member lists 4,096 workers at most, and 2 MiB of what
// they say, as JSON; it tells those that come then that it is busy, and they are tried again, too.
func (c *Client) Announce(ctx context.Context, w Worker) error {
	if w.Every == 0 {
		w.Every = time.Second
	}
	said := wire.Worker{Name: w.Name, Addr: w.Addr, Text: w.Text, Every: w.Every}
	if _, err := said.Encode(); err != nil || w.Name == "" {
		return fmt.Errorf("baton: announce %.40q: %w", w.Name, errors.Join(err, nameless(w)))
	}
	var speakers sync.WaitGroup
	defer speakers.Wait()
	speaking := map[place]context.CancelFunc{}
	for now := range c.Watch(ctx) {
		present := map[place]bool{}
		for _, m := range now.Members {
			at := place{m.Addr, m.Name}
			present[at] = true
			if speaking[at] == nil {
				speech, hush := context.WithCancel(ctx)
				speaking[at] = hush
				speakers.Go(func() { c.speak(speech, at, said) })
			}
		}
		for at, hush := range speaking {
			if !present[at] {
				hush()
				delete(speaking, at)
			}
		}
	}
	for _, hush := range speaking {
		hush()
	}
	if ctx.Err() == nil {
		return ErrClosed
	}
	return context.Cause(ctx)
}

func nameless(w Worker) error {
	if w.Name == "" {
		return errors.New("a worker needs a name")
	}
	return nil
}

// speak tells one member of the worker until ctx ends.
func (c *Client) speak(ctx context.Context, at place, said wire.Worker) {
	for pause := (backoff{}); ; {
		heard, err := c.speakOnce(ctx, at, said)
		if ctx.Err() != nil || c.sessions.life.Err() != nil {
			return
		}
		c.cfg.Logger.Debug("a member is not told of a worker any more", "cluster", c.cfg.Cluster, "at", at.String(), "err", err)
		if heard {
			pause = backoff{}
		}
		if !pause.wait(ctx) {
			return
		}
	}
}

// speakOnce speaks as long as a stream lasts. heard is whether the member has heard anything.
func (c *Client) speakOnce(ctx context.Context, at place, said wire.Worker) (heard bool, err error) {
	life, end := context.WithCancel(c.sessions.life)
	defer end()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(lastWord, end) })() // what is left of it is for the last word
	st, err := c.sessions.open(life, at, wire.KindWorker)
	if err != nil {
		return false, err
	}
	defer st.Close()
	every := time.NewTicker(said.Every)
	defer every.Stop()
	for {
		said.Leave = ctx.Err() != nil
		b, err := said.Encode()
		if err == nil {
			err = st.Send(b)
		}
		if err == nil {
			_, err = st.Recv(wire.MaxWorker)
		}
		if err != nil || said.Leave {
			return heard, err
		}
		heard = true
		select {
		case <-every.C:
		case <-st.Context().Done(): // it has ended
		case <-ctx.Done():
		}
	}
}
