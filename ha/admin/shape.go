package admin

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/baton-ha/baton/ha"
)

// This file shows the log as a member holds it, and who was Active when.

// A shape is the log in a picture and in numbers.
type shape struct {
	Label     string // in words
	Bars      []bar
	Rows      []row
	Snapshots []snapshot
}

// A bar is a stretch of 100.
type bar struct{ Class, Label, X, Width string }

func shapeOf(now time.Time, s ha.Status, st ha.Stats) shape {
	l := st.Log
	first, last := max(l.First, 1), max(s.Index, s.Applied)
	x := shape{Rows: []row{
		{"First record held", thousands(first)},
		{"Checkpoint up to", thousands(l.Checkpoint)},
		{"Applied up to", thousands(s.Applied)},
		{"Committed up to", thousands(s.Index)},
		{"Log", bytesOf(float64(st.Storage.Retained)) + " in " + plural(st.Storage.Segments, "segment")},
		{"Checkpoints", bytesOf(float64(st.Storage.SnapshotBytes)) + " in " + plural(st.Storage.Snapshots, "file")},
		{"Disk used", bytesOf(float64(st.Storage.Used))},
		{"Disk free", bytesOf(float64(st.Storage.Free))},
	}}
	if held := float64(last) + 1 - float64(first); held > 0 {
		applied := "applied"
		if l.Checkpoint > 0 {
			applied = "applied since"
		}
		at := func(record uint64) float64 {
			return 100 * (min(max(float64(record), float64(first)-1), float64(last)) + 1 - float64(first)) / held
		}
		from := 0.0
		for _, b := range []struct {
			class, label string
			to           float64
		}{{"saved", "in the checkpoint, too", at(l.Checkpoint)}, {"applied", applied, at(s.Applied)}, {"ahead", "not yet applied", 100}} {
			if b.to > from {
				x.Bars = append(x.Bars, bar{b.class, b.label, fmt.Sprintf("%.2f", from), fmt.Sprintf("%.2f", b.to-from)})
				from = b.to
			}
		}
	}
	x.Label = fmt.Sprintf("Records %s to %s are held; those up to %s are in the checkpoint, and those up to %s are applied.",
		thousands(first), thousands(last), thousands(l.Checkpoint), thousands(s.Applied))
	if last < first {
		x.Label = "There are no records yet."
		if l.Checkpoint > 0 {
			x.Label = fmt.Sprintf("All %s records are in the checkpoint.", thousands(l.Checkpoint))
		}
	}
	for _, u := range s.Snapshots {
		x.Snapshots = append(x.Snapshots, snapshotOf(now, s.Name, u))
	}
	return x
}

// A lane shows when a member was Active.
type lane struct {
	Name, Label string
	Bars        []bar
}

// laneFailovers is how many changes of the role the lanes go back.
const laneFailovers = 20

// lanes shows who was Active when, as the events say it.
func lanes(now time.Time, x ha.Explanation) (all []lane, since string) {
	changes := x.Failovers[max(0, len(x.Failovers)-laneFailovers):]
	if len(changes) == 0 {
		return nil, ""
	}
	from := changes[0].Ended
	if len(changes) > 1 { // so that the first is not a line at the edge
		from = changes[0].Began
	}
	length := max(now.Sub(from), time.Second)
	place := map[string]int{}
	for _, e := range x.Events {
		if _, ok := place[e.Member]; !ok {
			place[e.Member] = 0
			all = append(all, lane{Name: e.Member})
		}
	}
	slices.SortFunc(all, func(a, b lane) int { return cmp.Compare(a.Name, b.Name) })
	for i := range all {
		place[all[i].Name] = i
	}
	for i, f := range changes {
		end := now
		if i+1 < len(changes) {
			end = changes[i+1].Began
		} else if over := endOf(x, f); !over.IsZero() {
			end = over
		}
		l := &all[place[f.To]]
		at, width := 100*f.Ended.Sub(from).Seconds()/length.Seconds(), 100*end.Sub(f.Ended).Seconds()/length.Seconds()
		l.Bars = append(l.Bars, bar{"active", fmt.Sprintf("epoch %d", f.Epoch), fmt.Sprintf("%.2f", max(0, at)), fmt.Sprintf("%.2f", max(width, .3))})
	}
	for i := range all {
		all[i].Label = fmt.Sprintf("%s was Active %s, of the last %d", all[i].Name, plural(len(all[i].Bars), "time"), len(changes))
	}
	return all, clockOf(now, from)
}

// endOf returns when the role that began with a failover has ended, zero if it has not.
func endOf(x ha.Explanation, f ha.Failover) time.Time {
	for _, e := range x.Events {
		if e.Member != f.To || e.Time.Before(f.Ended) {
			continue
		}
		if e.Kind == ha.EventEnded && e.Epoch == f.Epoch || e.Kind == ha.EventStopped || e.Kind == ha.EventOpened {
			return e.Time
		}
	}
	return time.Time{}
}
