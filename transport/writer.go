package transport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"syscall"
	"time"

	"github.com/baton-ha/baton/internal/session"
)

const (
	writeSize  = 128 << 10 // bytes that the writer gathers for one write
	keepBuffer = 2 << 20   // the largest buffer that it keeps

	refusedBackoff    = time.Second
	maxRefusedBackoff = 5 * time.Second
)

// run dials, writes until the connection ends, and again.
func (l *lane) run(ctx context.Context) {
	cfg := &l.p.t.cfg
	said, name, lane := l.p.t.said, l.p.Name, l.purpose.String()
	var pause, refusals backoff
	var failing time.Time // since when it does
	for ctx.Err() == nil {
		l.dials()
		sessions := l.p.sessions()
		conn, err := l.p.t.end.Dial(l.p.small(ctx), l.p.Peer, l.purpose)
		if ctx.Err() != nil {
			if err == nil {
				conn.Close()
			}
			return
		}
		if err != nil {
			var r *RefusedError
			var cause *session.CauseError
			if errors.As(err, &cause) && cause.Kind == session.CauseSilent {
				l.p.smaller()
			}
			if failing.IsZero() {
				failing = time.Now()
			}
			level := slog.LevelWarn
			if l.p.parted() {
				level = slog.LevelInfo
			}
			told := l.p.tellDuplicate(err)
			if text, say := l.p.worthSaying(err, time.Since(failing), sessions); say && !told {
				said.Say(level, lineCannotConnect, name, text, "peer", name, "err", err)
			}
			errors.As(err, &r)
			if r != nil {
				l.p.t.refused(r)
				l.wait(ctx, refusals.next(refusedBackoff, maxRefusedBackoff))
			} else {
				l.wait(ctx, pause.next(cfg.Backoff, cfg.MaxBackoff))
			}
			continue
		}
		failing = time.Time{}
		l.p.tellDuplicate(nil)
		if back := l.p.attached(conn); said.Over(lineCannotConnect, name) || back {
			cfg.Logger.Info("connected", "peer", name, "addr", conn.Raw.RemoteAddr())
		}
		said.Over(lineLost, name)
		since := time.Now()
		l.connects(conn.Raw)
		conn.ResetUnless(l.p.last)
		l.setUp(inlineOf(conn))
		err = l.serve(ctx, conn)
		l.setDown()
		if ctx.Err() != nil {
			return
		}
		if l.purpose == PurposeBulk {
			l.p.t.unreachable(l.p.ID)
		}
		l.p.ended(ctx, conn, err)
		level := slog.LevelInfo
		if session.HungUp(err) || errors.Is(err, errStuck) {
			level = slog.LevelDebug // it is back at once, or its end is said, or that it is stuck is
		}
		said.Say(level, lineLost, name, session.StableText(err), "peer", name, "connection", lane, "err", err)
		refusals = backoff{}
		if errors.Is(err, errStuck) || errors.Is(err, syscall.ETIMEDOUT) {
			// That the peer dials us is no reason to try earlier: it is there, and takes nothing.
			l.need = max(l.need, 1)
			l.p.stuck(l.purpose)
			l.p.smaller()
			wait(ctx, nil, l.pause.next(l.timeout/2, maxStuckPause))
			continue
		}
		if time.Since(since) > cfg.MaxBackoff {
			pause = backoff{}
		} else {
			// Admitted and dropped at once, again and again: that must not become a storm.
			l.wait(ctx, pause.next(cfg.Backoff, cfg.MaxBackoff))
		}
	}
}

func (l *lane) wait(ctx context.Context, d time.Duration) { wait(ctx, l.redial, d) }

func wait(ctx context.Context, early <-chan struct{}, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-early:
	case <-ctx.Done():
	}
}

// serve writes to the connection until it ends, closes it, and returns the reason.
func (l *lane) serve(ctx context.Context, conn *session.Link) error {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()

	// What comes back is how much was taken, and the end.
	ended := make(chan error, 1)
	go func() {
		err := heardEnd(conn, l.hear(conn))
		conn.Close() // ends a write that is stuck
		ended <- err
	}()
	done, watched := make(chan struct{}), make(chan bool, 1)
	go func() { watched <- l.watch(conn, done) }()

	err, finished := l.write(conn, ended)
	conn.Close()
	close(done)
	stuck := <-watched
	if !finished {
		// The write failed first. If that was because the peer hung up, the reader knows it too, and how.
		if rerr := <-ended; session.HungUp(rerr) {
			err = rerr
		}
	}
	switch {
	case stuck && session.HungUp(err): // still tells of the other side's end
		return fmt.Errorf("%w (%w)", errStuck, err)
	case stuck:
		return errStuck
	}
	return err
}

// hear reads what comes back until the end of the connection.
func (l *lane) hear(conn *session.Link) error {
	for {
		f, err := conn.Next(takenSize)
		if err == nil {
			err = l.progress.hear(f)
		}
		if err != nil {
			return err
		}
	}
}

// write is the writer's loop. It has no deadline: watch ends it. finished: the error is that of the ended channel.
func (l *lane) write(conn *session.Link, ended <-chan error) (err error, finished bool) {
	var batch []queued
	for {
		var rest []byte
		if rest, batch, err = l.take(batch); err != nil {
			l.lose(0, 0, batch)
			return err, false
		}
		if len(rest) == 0 && len(batch) == 0 {
			select {
			case <-l.wake:
				continue
			case err := <-ended:
				return err, true
			}
		}
		if len(rest) > 0 {
			if _, err := conn.Write(rest); err != nil {
				l.lose(0, 0, batch)
				return err, false
			}
			l.release(0, int64(len(rest)))
		}
		var bytes int64
		frames := 0
		l.train.empty()
		l.train.apart = mayLeave(conn)
		for i := range batch {
			q := &batch[i]
			bytes += q.size
			frames++
			if err = l.append(q); err != nil {
				l.lose(frames, bytes, batch[i+1:])
				return err, false
			}
			*q = queued{}
			if l.train.size < writeSize && i < len(batch)-1 {
				continue
			}
			l.progress.sent.Add(int64(l.train.size))
			if err := l.train.writeTo(conn); err != nil {
				l.lose(frames, bytes, batch[i+1:])
				return err, false
			}
			l.release(frames, bytes)
			bytes, frames = 0, 0
			l.train.empty()
		}
	}
}

type backoff struct{ d time.Duration }

// next returns the next pause: doubling from lo to hi, of which up to a half is taken off at random.
func (b *backoff) next(lo, hi time.Duration) time.Duration {
	b.d = min(max(2*b.d, lo), hi)
	return b.d - time.Duration(rand.Int64N(int64(b.d)/2+1))
}
