package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"github.com/baton-ha/baton/internal/wire"
)

// This file reads what a member says of itself.

// A Report is what a member says of itself and of the others. Its fields are those of ha.StatusReport, ha.Status and so on, as JSON has
// them: durations are seconds.
type Report struct {
	Cluster   string         `json:"cluster"`
	ClusterID string         `json:"cluster_id"`
	Time      time.Time      `json:"time"`
	Status    Status         `json:"status"`
	Members   []MemberStatus `json:"members"`
	Workers   []WorkerStatus `json:"workers"`

	// JSON is the report as the member has sent it, with what only a later version knows.
	JSON json.RawMessage `json:"-"`
}

// Status is what a member says of itself.
type Status struct {
	Name            string     `json:"name"`
	State           string     `json:"state"`
	Token           string     `json:"token"`
	Epoch           uint64     `json:"epoch"`
	Active          string     `json:"active"`
	ActiveAddr      string     `json:"active_addr"`
	ActiveAdvertise string     `json:"active_advertise,omitempty"`
	Leader          string     `json:"leader"`
	Index           uint64     `json:"index"`
	Applied         uint64     `json:"applied"`
	Lag             uint64     `json:"lag_records"`
	LagTime         float64    `json:"lag_seconds"`
	Lease           float64    `json:"lease_seconds"`
	Err             string     `json:"error,omitempty"`
	Obstacles       []Obstacle `json:"obstacles,omitempty"`
	Problems        []Problem  `json:"problems,omitempty"`
	Snapshots       []Transfer `json:"snapshots,omitempty"`
}

// MemberStatus is what a member knows of another one, or of itself.
type MemberStatus struct {
	Name      string     `json:"name"`
	Addr      string     `json:"addr"`
	Advertise string     `json:"advertise,omitempty"`
	Kind      string     `json:"kind"`
	Joining   bool       `json:"joining,omitempty"`
	Priority  int        `json:"priority"`
	Liveness  string     `json:"liveness"`
	State     string     `json:"state"`
	Epoch     uint64     `json:"epoch"`
	Obstacles []Obstacle `json:"obstacles,omitempty"`
	Index     uint64     `json:"index"`
	Applied   uint64     `json:"applied"`
	Lag       uint64     `json:"lag"`
	LagTime   float64    `json:"lag_seconds"`
	Program   string     `json:"program,omitempty"`
	Protocol  int        `json:"protocol,omitempty"`
	Heard     time.Time  `json:"heard,omitzero"`
	RoundTrip float64    `json:"round_trip_seconds,omitempty"`
}

// WorkerStatus is what a member knows of a program that is no member and has announced itself.
type WorkerStatus struct {
	Name     string    `json:"name"`
	Addr     string    `json:"addr"`
	Text     string    `json:"text,omitempty"`
	Liveness string    `json:"liveness"`
	Since    time.Time `json:"since"`
	Heard    time.Time `json:"heard"`
}

// An Obstacle is why a member may not have the role, or had better not.
type Obstacle struct {
	Kind  string    `json:"kind"`
	Text  string    `json:"text"`
	Since time.Time `json:"since"`
	Until time.Time `json:"until,omitzero"`
}

// A Problem is what else is wrong.
type Problem struct {
	Kind  string    `json:"kind"`
	Peer  string    `json:"peer,omitempty"`
	Err   string    `json:"error"`
	Since time.Time `json:"since"`
}

// A Transfer is a snapshot on its way to or from another member.
type Transfer struct {
	Peer  string    `json:"peer"`
	Sends bool      `json:"sends"`
	Bytes int64     `json:"bytes"`
	Size  int64     `json:"size"` // -1: not known
	Since time.Time `json:"since"`
}

// An Event is something that a member has decided or found out: see ha.Event.
type Event struct {
	Time   time.Time `json:"time"`
	Member string    `json:"member"`
	Run    int64     `json:"run"`
	Seq    uint64    `json:"seq"`
	Kind   string    `json:"kind"`
	Epoch  uint64    `json:"epoch,omitempty"`
	Term   uint64    `json:"term,omitempty"`
	Peer   string    `json:"peer,omitempty"`
	Cause  string    `json:"cause,omitempty"`
	Text   string    `json:"text"`

	// JSON is the event as the member has sent it, with what is not here.
	JSON json.RawMessage `json:"-"`
}

// String is the event for people, as one line.
func (e Event) String() string {
	return fmt.Sprintf("%s %s: %s", e.Time.Format("15:04:05.000"), e.Member, e.Text)
}

// An Epoch is one epoch of the history of a cluster.
type Epoch struct {
	Epoch  uint64 `json:"epoch"`
	Holder string `json:"holder"` // the member that was Active
	Term   uint64 `json:"term"`
	Raft   uint64 `json:"raft_index"` // of its start in the log of raft
	First  uint64 `json:"first"`      // the first record after its start
}

// Status asks a member how it is; "" asks any, and takes the first answer. This and the calls below need no operator, ask each member once, and do
// not wait for one that is down longer than ctx and Config.DialTimeout say. Errors: [ErrNoMember], [ErrClosed], the cause of ctx, and
// what was in the way.
func (c *Client) Status(ctx context.Context, member string) (*Report, error) {
	for r, err := range c.WatchStatus(ctx, member, false) {
		return r, err
	}
	return nil, io.ErrUnexpectedEOF
}

// WatchStatus yields how a member is, and with follow again when that has changed and every ha.Config.ElectionTimeout, until ctx or
// the connection ends. The error comes once, last.
func (c *Client) WatchStatus(ctx context.Context, member string, follow bool) iter.Seq2[*Report, error] {
	return reports(ctx, c, member, wire.ReportRequest{What: wire.ReportStatus, Follow: follow}, func(b []byte) (*Report, error) {
		r := &Report{JSON: b}
		return r, json.Unmarshal(b, r)
	})
}

// Stats asks a member what it has done so far: ha.Stats as JSON, with Go's names of fields. "" asks any.
func (c *Client) Stats(ctx context.Context, member string) (json.RawMessage, error) {
	for b, err := range reports(ctx, c, member, wire.ReportRequest{What: wire.ReportStats}, func(b []byte) (json.RawMessage, error) { return b, nil }) {
		return b, err
	}
	return nil, io.ErrUnexpectedEOF
}

// Events yields what a member has decided and why, oldest first: what its directory still has, and with follow what comes, until ctx
// or the connection ends. The error comes once, last; without follow there is none at the end.
func (c *Client) Events(ctx context.Context, member string, follow bool) iter.Seq2[Event, error] {
	return reports(ctx, c, member, wire.ReportRequest{What: wire.ReportEvents, Follow: follow}, func(b []byte) (Event, error) {
		e := Event{JSON: b}
		return e, json.Unmarshal(b, &e)
	})
}

// Epochs yields the history of the cluster as a member knows it, oldest first.
func (c *Client) Epochs(ctx context.Context, member string) iter.Seq2[Epoch, error] {
	return reports(ctx, c, member, wire.ReportRequest{What: wire.ReportEpochs}, func(b []byte) (e Epoch, err error) {
		return e, json.Unmarshal(b, &e)
	})
}

// reports asks for a report and yields its messages.
func reports[T any](ctx context.Context, c *Client, member string, q wire.ReportRequest, decode func([]byte) (T, error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		ctx, cancel := c.within(ctx)
		defer cancel()
		err := c.eachOf(ctx, member, func(at place) (answered bool, err error) {
			return c.report(ctx, at, q, member == "", func(b []byte) error {
				v, err := decode(b)
				if err == nil && !yield(v, nil) {
					err = errEnough
				}
				return err
			})
		})
		switch {
		case err == nil, err == errEnough:
			return
		case ctx.Err() != nil:
			err = context.Cause(ctx)
		}
		var none T
		yield(none, err)
	}
}

// report asks one member. One that is not the only one to be asked is not waited for as long as ctx says.
func (c *Client) report(ctx context.Context, at place, q wire.ReportRequest, impatient bool, take func([]byte) error) (answered bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if impatient {
		late := time.AfterFunc(reportPatience, func() { cancel(errSilent) })
		defer late.Stop()
		taken := take
		take = func(b []byte) error { late.Stop(); return taken(b) }
	}
	st, err := c.sessions.open(ctx, at, wire.KindReport)
	if err != nil {
		return false, err
	}
	defer st.Close()
	if err := st.Send(q.Encode()); err != nil {
		return false, err
	}
	for {
		b, err := st.Recv(wire.MaxReport)
		if errors.Is(err, io.EOF) {
			return true, nil
		}
		if err == nil {
			err, answered = take(b), true
		}
		if err != nil {
			if err != errEnough {
				err = fmt.Errorf("%v: %w", at, err)
			}
			return answered, err
		}
	}
}
