package transport

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"
)

const (
	writeSize = 128 << 10 // bytes that the writer gathers for one write

	refusedBackoff    = time.Second
	maxRefusedBackoff = 5 * time.Second
)

// run dials, writes until the connection ends, and again.
func (l *lane) run(ctx context.Context) {
	cfg := &l.p.t.cfg
	said, name, lane := l.p.t.said, l.p.Name, l.purpose.String()
	var pause, refusals backoff
	for ctx.Err() == nil {
		conn, err := l.p.t.dial(ctx, l.p.Peer, l.purpose)
		if ctx.Err() != nil {
			if err == nil {
				conn.Close()
			}
			return
		}
		if err != nil {
			var r *RefusedError
			text := stableText(err)
			if errors.As(err, &r) {
				text = refusalText(r)
			}
			said.say(slog.LevelWarn, lineCannotConnect, name, text, "peer", name, "connection", lane, "error", err)
			if r != nil {
				l.p.t.refused(r)
				l.wait(ctx, refusals.next(refusedBackoff, maxRefusedBackoff))
			} else {
				l.wait(ctx, pause.next(cfg.Backoff, cfg.MaxBackoff))
			}
			continue
		}
		if said.over(lineCannotConnect, name) {
			cfg.Logger.Info("connected", "peer", name, "addr", conn.raw.RemoteAddr())
		}
		said.over(lineLost, name)
		since := time.Now()
		l.p.attached(conn)
		l.setUp(conn.inline())
		err = l.serve(ctx, conn)
		l.setDown()
		if ctx.Err() != nil {
			return
		}
		if l.purpose == PurposeBulk {
			l.p.t.unreachable(l.p.ID)
		}
		if hungUp(err) {
			l.p.ended(ctx)
		}
		said.say(slog.LevelInfo, lineLost, name, stableText(err), "peer", name, "connection", lane, "error", err)
		refusals = backoff{}
		if time.Since(since) > cfg.MaxBackoff {
			pause = backoff{}
		} else {
			// Admitted and dropped at once, again and again: that must not become a storm.
			l.wait(ctx, pause.next(cfg.Backoff, cfg.MaxBackoff))
		}
	}
}

func (l *lane) wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-l.redial:
	case <-ctx.Done():
	}
}

// serve writes to the connection until it ends, closes it, and returns the reason.
func (l *lane) serve(ctx context.Context, conn *link) error {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	setUserTimeout(conn.raw, 2*l.timeout)

	// Nothing comes back on this connection: reading is for seeing its end.
	ended := make(chan error, 1)
	go func() {
		var b [1]byte
		_, err := conn.Read(b[:])
		if err == nil {
			err = errors.New("peer sent something on a connection that is ours to write")
		}
		conn.Close() // ends a write that is stuck
		ended <- err
	}()

	err, finished := l.write(conn, ended)
	conn.Close()
	if !finished {
		// The write failed first. If that was because the peer hung up, the reader knows it too.
		if rerr := <-ended; !hungUp(err) && hungUp(rerr) {
			err = rerr
		}
	}
	return err
}

// write is the writer's loop. finished: the error is that of the ended channel.
func (l *lane) write(conn *link, ended <-chan error) (err error, finished bool) {
	var batch []queued
	for {
		var rest []byte
		if rest, batch, err = l.take(batch); err != nil {
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
			if err := conn.write(rest, l.timeout); err != nil {
				return err, false
			}
			l.release(int64(len(rest)))
		}
		var bytes int64
		buf := l.buf[:0]
		for i := range batch {
			q := &batch[i]
			if buf, err = appendMessage(buf, kindMessage, q.group, nil, q.m); err != nil {
				return err, false
			}
			bytes += q.size
			*q = queued{}
			if len(buf) < writeSize && i < len(batch)-1 {
				continue
			}
			if err := conn.write(buf, l.timeout); err != nil {
				return err, false
			}
			l.release(bytes)
			bytes = 0
			if buf = buf[:0]; cap(buf) > keepBuffer {
				buf = nil
			}
		}
		l.buf = buf
	}
}

type backoff struct{ d time.Duration }

// next returns the next pause: doubling from lo to hi, of which up to a half is taken off at random.
func (b *backoff) next(lo, hi time.Duration) time.Duration {
	b.d = min(max(2*b.d, lo), hi)
	return b.d - time.Duration(rand.Int64N(int64(b.d)/2+1))
}
