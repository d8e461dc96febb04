package client_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/ha/client"
	"github.com/baton-ha/baton/internal/loopback"
	"github.com/baton-ha/baton/internal/session"
	"github.com/baton-ha/baton/internal/wire"
)

func operator(t *testing.T, c *cluster) *client.Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	o, err := client.Dial(ctx, client.Config{Cluster: "test", Addrs: c.addrs(), Logger: quiet(), Operator: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.Close() })
	return o
}

// again does something until it succeeds: what is refused because another member does not keep up just now is asked for again.
func again(t *testing.T, what string, do func(ctx context.Context) error) {
	t.Helper()
	var last error
	eventually(t, what, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		err := do(ctx)
		if err != nil && (last == nil || last.Error() != err.Error()) {
			t.Log(what, err)
			last = err
		}
		return err == nil
	})
}

// Whatever an operator does goes over the wire, and what a member says of itself.
func TestOperate(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	o := operator(t, c)
	c.active()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()

	var index uint64
	again(t, "a record is appended", func(ctx context.Context) (err error) { index, _, err = o.Append(ctx, []byte("by hand")); return err })
	for e, err := range o.Subscribe(ctx, index) {
		if err != nil || string(e.Data) != "by hand" {
			t.Errorf("%q, %v", e.Data, err)
		}
		break
	}
	if _, _, err := o.Append(ctx, make([]byte, 1<<20+1)); !errors.Is(err, client.ErrTooLarge) {
		t.Errorf("a record above 1 MiB: %v", err)
	}

	// What a member says of itself.
	for _, m := range append(c.members, ha.Member{}) {
		r, err := o.Status(ctx, m.Name)
		if err != nil {
			t.Fatal(err)
		}
		if m.Name != "" && r.Status.Name != m.Name || len(r.Members) != 3 || r.Cluster != "test" || len(r.ClusterID) != 32 || len(r.JSON) == 0 {
			t.Errorf("%s says %+v", m.Name, r)
		}
	}
	if b, err := o.Stats(ctx, "a"); err != nil || !strings.Contains(string(b), `"Appended"`) {
		t.Errorf("stats: %s, %v", b, err)
	}
	if who, err := o.Who(ctx, c.addr("b")); err != nil || who != "b" {
		t.Errorf("at b's address is %q, %v", who, err)
	}
	if _, err := o.Status(ctx, "nobody"); !errors.Is(err, client.ErrNoMember) {
		t.Errorf("status of nobody: %v", err)
	}
	var epochs []client.Epoch
	for e, err := range o.Epochs(ctx, "") {
		if err != nil {
			t.Error(err)
		}
		epochs = append(epochs, e)
	}
	if len(epochs) == 0 || epochs[0].Epoch != 1 || epochs[0].First != 1 || epochs[0].Holder == "" {
		t.Errorf("epochs %+v", epochs)
	}
	eventually(t, "whoever makes the backup has the record", func() bool {
		r, err := c.backup(ctx, o)
		if err != nil {
			t.Fatal(err)
		}
		return r.Index >= index
	})

	// Its events, also as another member asks for them, and as they come.
	follow, stop := context.WithCancel(ctx)
	defer stop()
	began, moved := o.Cluster().Epoch, false
	for e, err := range o.Events(follow, "a", true) {
		if err != nil {
			t.Errorf("events end: %v", err)
			break
		}
		if e.Member != "a" {
			t.Errorf("an event of another: %v", e)
		}
		if e.Kind == string(ha.EventOpened) {
			go func() { // away from a, if it is there, and to it
				for _, to := range []string{"b", "a"} {
					for follow.Err() == nil && o.HandOver(follow, to) != nil {
						time.Sleep(10 * time.Millisecond)
					}
				}
			}()
		}
		if moved = e.Kind == string(ha.EventActive) && e.Epoch > began; moved {
			stop()
			break
		}
	}
	if !moved {
		t.Error("the event of a role that was taken over did not come")
	}
	var own, others []string
	last := uint64(0)
	for e, err := range c.node("a").EventsOf(ctx, "a", false) {
		if own = append(own, e.Text); e.Seq != last+1 {
			t.Errorf("event %d comes behind %d", e.Seq, last)
		}
		last = e.Seq
		if err != nil {
			t.Error(err)
		}
	}
	for e, err := range c.node("b").EventsOf(ctx, "a", false) {
		others = append(others, e.Text)
		if err != nil {
			t.Error(err)
		}
	}
	if len(own) < 3 || len(others) < len(own) || !slices.Equal(own, others[:len(own)]) {
		t.Errorf("a's events: %q; asked by b: %q", own, others)
	}
	for _, err := range c.node("b").EventsOf(ctx, "nobody", false) {
		if !errors.Is(err, ha.ErrNoMember) {
			t.Errorf("events of nobody: %v", err)
		}
	}

	// Roles.
	again(t, "b is active", func(ctx context.Context) error { return o.HandOver(ctx, "b") })
	again(t, "b stays away", func(ctx context.Context) error { return o.StayAway(ctx, "b", "a new kernel") })
	r, err := o.Status(ctx, "b")
	if err != nil || !slices.ContainsFunc(r.Status.Obstacles, func(x client.Obstacle) bool { return x.Kind == string(ha.ObstacleAway) && x.Text == "a new kernel" }) {
		t.Errorf("b says %+v, %v", r, err)
	}
	var refused *client.ChangeError
	if err := o.HandOver(ctx, "b"); !errors.As(err, &refused) || refused.Reason != client.ReasonNotChosen || !strings.Contains(refused.Detail, "a new kernel") {
		t.Errorf("b becomes active while it stays away: %v", err)
	}
	if err := o.ComeBack(ctx, "b"); err != nil {
		t.Error(err)
	}
	eventually(t, "b may be active", func() bool {
		r, err := o.Status(ctx, "b")
		return err == nil && !slices.ContainsFunc(r.Status.Obstacles, func(x client.Obstacle) bool { return x.Kind == string(ha.ObstacleAway) })
	})
	again(t, "the active hands over", func(ctx context.Context) error { return o.HandOver(ctx, "") })

	// The list of the members.
	again(t, "a priority is set", func(ctx context.Context) error { return o.SetPriority(ctx, "c", 7) })
	eventually(t, "the priority is listed", func() bool {
		r, err := o.Status(ctx, "")
		return err == nil && r.Members[2].Priority == 7
	})
	for _, x := range []struct {
		reason client.Reason
		err    error
	}{
		{client.ReasonNoMember, o.Promote(ctx, "nobody")},
		{client.ReasonNewcomer, o.AddMember(ctx, client.NewMember{Name: "d", Addr: loopback.Addr(t), Kind: "observer"})},
		{client.ReasonBadChange, o.AddMember(ctx, client.NewMember{Name: "d", Addr: "h:1", Kind: "king"})},
		{client.ReasonBadChange, o.RemoveMember(ctx, "not/a name")},
		{client.ReasonBadChange, o.StayAway(ctx, "a", strings.Repeat("x", 2000))},
	} {
		if !errors.As(x.err, &refused) || refused.Reason != x.reason {
			t.Errorf("%v, want %v", x.err, x.reason)
		}
	}

	// Who is no operator.
	reader := dial(t, c.addrs()...)
	_, _, notAppended := reader.Append(ctx, nil)
	_, notSaved := reader.Backup(ctx, "", io.Discard)
	for _, err := range []error{reader.RemoveMember(ctx, "a"), reader.ComeBack(ctx, "a"), notAppended, notSaved} {
		if !errors.Is(err, client.ErrNotOperator) {
			t.Errorf("a reader: %v", err)
		}
	}
	m := stranger(t, c.addr("a"), session.RoleClient)
	for _, kind := range []string{wire.KindCommand, wire.KindAppend, wire.KindBackup, wire.KindMembers} {
		if b, err := open(t, m, kind).Recv(1 << 20); !errors.Is(err, &session.StreamError{Code: session.StreamForbidden}) {
			t.Errorf("a stranger's %s: %q, %v", kind, b, err)
		}
	}
	// What is no request.
	m = stranger(t, c.addr("a"), session.RoleOperator)
	for _, kind := range []string{wire.KindReport, wire.KindCommand, wire.KindAppend, wire.KindBackup} {
		st := open(t, m, kind)
		_ = st.Send([]byte("?"))
		if b, err := st.Recv(1 << 20); !errors.Is(err, &session.StreamError{Code: wire.CodeMalformed}) {
			t.Errorf("no %s: %q, %v", kind, b, err)
		}
	}
	// Who asks and never ends: as many as there are places, and places are free again.
	many := stranger(t, c.addr("a"), session.RoleClient)
	ask := func() error {
		st := open(t, many, wire.KindReport)
		_ = st.Send(wire.ReportRequest{What: wire.ReportStatus, Follow: true}.Encode())
		_, err := st.Recv(wire.MaxReport)
		return err
	}
	busy := error(nil)
	for range 65 {
		busy = ask()
	}
	if !errors.Is(busy, &session.StreamError{Code: session.StreamBusy}) {
		t.Errorf("one report more than there are places for: %v", busy)
	}
	many.Close()
	many = stranger(t, c.addr("a"), session.RoleClient)
	eventually(t, "there are places again", func() bool { return ask() == nil })
	st := open(t, m, wire.KindReport)
	_ = st.Send([]byte{1, 200, 0})
	if b, err := st.Recv(1 << 20); !errors.Is(err, &session.StreamError{Code: wire.CodeMalformed}) {
		t.Errorf("a report that there is not: %q, %v", b, err)
	}
	st = open(t, m, wire.KindCommand)
	_ = st.Send([]byte{1, 200, 0, 0})
	if b, err := st.Recv(1 << 20); err != nil {
		t.Error(err)
	} else if a, err := wire.ParseChangeAnswer(b); err != nil || a.Outcome != wire.Refused {
		t.Errorf("a command that there is not: %+v, %v", a, err)
	}
}

// A record whose fate is open is not appended again (G3; the planted bug "append-repeated" does): the caller is told.
func TestAppendOpen(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	o := operator(t, c)
	// The Active must have got the record before it knows that its majority is gone, and its majority must go before it has the record.
	eventually(t, "a record is left without a majority", func() bool {
		n, _ := c.active()
		self := n.Status().Name
		fate := make(chan error, 1)
		var others sync.WaitGroup
		for _, m := range c.members {
			if m.Name != self {
				others.Go(func() { c.stop(m.Name) })
			}
		}
		others.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		go func() {
			_, _, err := o.Append(ctx, []byte("once"))
			fate <- err
		}()
		for len(fate) == 0 && n.Stats().Log.Proposed == 0 && n.Status().State == ha.Active {
			time.Sleep(time.Millisecond)
		}
		waits := n.Stats().Log.Proposed > 0
		c.stop(self)
		if !waits {
			cancel()
		}
		if err := <-fate; waits && !errors.Is(err, client.ErrUnknown) {
			t.Errorf("appended on a member that was closed without a majority: %v", err)
		}
		if !waits {
			for _, m := range c.members {
				c.start(m.Name)
			}
		}
		return waits
	})
}

// backup reads a backup as it comes.
func (c *cluster) backup(ctx context.Context, o *client.Client) (ha.BackupInfo, error) {
	var b bytes.Buffer
	size, err := o.Backup(ctx, "", &b)
	if err != nil || size != int64(b.Len()) {
		return ha.BackupInfo{}, errors.Join(err, io.ErrShortWrite)
	}
	return ha.ReadBackup(ctx, &b)
}

// What a client reads of reports is what members write.
func TestReportFields(t *testing.T) {
	now, oops := time.Now().Round(0), errors.New("oops")
	obstacles := []ha.Obstacle{{Kind: "k", Text: "t", Since: now, Until: now}}
	said := ha.StatusReport{Cluster: "c", ClusterID: "00", Time: now,
		Status: ha.Status{Name: "a", State: ha.Active, Token: fence.Token{Cluster: "c", Epoch: 1, Holder: "a"}, Epoch: 1, Active: "a", ActiveAddr: "h:1",
			ActiveAdvertise: "h:2", Leader: "a", Index: 1, Applied: 1, Lag: ha.Lag{Records: 1, Time: 1}, Lease: 1, Err: oops, Obstacles: obstacles,
			Problems: []ha.Problem{{Kind: "k", Peer: "b", Err: oops, Since: now}}, Snapshots: []ha.Underway{{Peer: "b", Sends: true, Bytes: 1, Size: 2, Since: now}}},
		Members: []ha.MemberStatus{{Name: "a", Addr: "h:1", Advertise: "h:2", Joining: true, Priority: 1, Liveness: ha.Alive, State: ha.Active, Epoch: 1,
			Obstacles: obstacles, Index: 1, Applied: 1, Lag: 1, LagTime: 1, Program: "1", Protocol: 5, Heard: now, RoundTrip: 1}},
		Workers: []ha.WorkerStatus{{Name: "w", Addr: "h:3", Text: "t", Liveness: ha.Alive, Since: now, Heard: now}},
	}
	same(t, said, &client.Report{})
	same(t, ha.Event{Time: now, Member: "a", Run: 1, Seq: 1, Kind: "k", Epoch: 1, Term: 1, Peer: "b", Cause: "c", Text: "t"}, &client.Event{})
}

// same fails unless what is said is read, all of it and nothing else.
func same(t *testing.T, said, read any) {
	t.Helper()
	b, err := json.Marshal(said)
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(read); err != nil {
		t.Error(err)
	}
	again, err := json.Marshal(read)
	var first, second any
	if err := errors.Join(err, json.Unmarshal(b, &first), json.Unmarshal(again, &second)); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(first, second) {
		t.Errorf("said\n%s\nand read\n%s", b, again)
	}
}

// TestNoLeader: a member that waits to be added finds nobody who could make a change. It says so in time for another member to be asked, and that
// nothing was done; but for a call that ends while it is asked.
func TestNoLeader(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, func(cfg *ha.Config) {
		cfg.Join, cfg.Heartbeat, cfg.ElectionTimeout = true, 5*time.Millisecond, 50*time.Millisecond
	})
	o := operator(t, c)
	eventually(t, "a change is known not to be made", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		err := o.ReplaceMember(ctx, "a")
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		return errors.Is(err, client.ErrNoActive) && !errors.Is(err, client.ErrUnknown)
	})
}
