package admin

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// This file puts numbers into words.

// thousands writes 1234567 as 1,234,567.
func thousands(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// plural writes a number of things.
func plural(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return thousands(uint64(n)) + " " + thing
}

// bytesOf writes a number of bytes with three digits or so.
func bytesOf(n float64) string {
	if n < 0 {
		return "unknown"
	}
	unit := 0
	for n >= 1024 && unit < len(byteUnits)-1 {
		n /= 1024
		unit++
	}
	return short(n) + " " + byteUnits[unit]
}

var byteUnits = []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}

// short writes a number with three digits.
func short(v float64) string {
	switch {
	case v >= 1000:
		return thousands(uint64(math.Round(v)))
	case v >= 100 || v == math.Trunc(v):
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

// timeOf writes a time with three digits, whatever its size.
func timeOf(d time.Duration) string {
	switch s := d.Seconds(); {
	case d <= 0:
		return "0"
	case s < 1e-3:
		return short(s*1e6) + " µs"
	case s < 1:
		return short(s*1e3) + " ms"
	case s < 60:
		return short(s) + " s"
	}
	return span(d)
}

// span writes a time as people say it.
func span(d time.Duration) string {
	d = d.Round(time.Second)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", d/time.Minute, d%time.Minute/time.Second)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %d min", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%d days", d/(24*time.Hour))
}

// ago says how long something is ago. It changes as seldom as it can.
func ago(now, then time.Time) string {
	d := now.Sub(then)
	switch {
	case then.IsZero():
		return "never"
	case d < 3*time.Second:
		return "just now"
	case d < time.Minute:
		return fmt.Sprintf("%d s ago", max(3, int(d.Seconds())/5*5))
	case d < time.Hour:
		return fmt.Sprintf("%d min ago", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h ago", d/time.Hour)
	}
	return fmt.Sprintf("%d days ago", d/(24*time.Hour))
}

// clockOf is a moment for people: the time of the day, with the day where that is another.
func clockOf(now, t time.Time) string {
	t = t.Local()
	if now.Local().Format(time.DateOnly) == t.Format(time.DateOnly) {
		return t.Format("15:04:05.000")
	}
	return t.Format("2006-01-02 15:04:05.000")
}
