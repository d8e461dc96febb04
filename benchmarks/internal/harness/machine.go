package harness

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A Sample is the state of the counters of the process and of the machine at one moment.
type Sample struct {
	at           time.Time
	self, user   time.Duration // CPU time of this process: all, and in user mode
	all          jiffies
	allocs, size uint64
}

// jiffies are the machine's, of 10 ms, summed over its processors, from /proc/stat. Zero where there is no /proc.
type jiffies struct{ user, busy, steal, total uint64 }

const jiffy = 10 * time.Millisecond

// Usage is what was used between two samples.
type Usage struct {
	Wall   time.Duration
	CPU    time.Duration // of this process, user and system, from getrusage
	Allocs uint64        // heap objects of the whole process, from runtime.MemStats
	Bytes  uint64        // of them
	// The rest are parts of the machine's CPU time, all processors together, from /proc/stat.
	Steal      float64
	Others     float64 // of other processes, and the kernel's threads, which work for us too
	OthersUser float64 // of other processes in user mode: certainly not for us
}

// TakeSample reads all counters. It stops the world for a moment. The CPU time is that of this process and of others that are
// named by their ids.
func TakeSample(others ...int) Sample {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	var ru syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &ru) // cannot fail for RUSAGE_SELF
	s := Sample{at: time.Now(), user: timeval(ru.Utime), all: readJiffies(), allocs: m.Mallocs, size: m.TotalAlloc}
	s.self = s.user + timeval(ru.Stime)
	for _, pid := range others {
		user, system := timesOf(pid)
		s.user += user
		s.self += user + system
	}
	return s
}

// timesOf is the CPU time of a process, 0 if there is none.
func timesOf(pid int) (user, system time.Duration) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:])) // from the third field on, which is its state
	if len(f) < 13 {
		return 0, 0
	}
	u, _ := strconv.ParseUint(f[11], 10, 64)
	v, _ := strconv.ParseUint(f[12], 10, 64)
	return time.Duration(u) * jiffy, time.Duration(v) * jiffy
}

func timeval(t syscall.Timeval) time.Duration { return time.Duration(t.Nano()) }

func readJiffies() (j jiffies) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return j
	}
	line, _, _ := bytes.Cut(b, []byte("\n"))
	var v [8]uint64 // user nice system idle iowait irq softirq steal
	for i, f := range strings.Fields(string(line))[1:] {
		if i < len(v) {
			v[i], _ = strconv.ParseUint(f, 10, 64)
			j.total += v[i]
		}
	}
	j.user, j.steal = v[0]+v[1], v[7]
	j.busy = v[0] + v[1] + v[2] + v[5] + v[6]
	return j
}

// Since returns what was used from an earlier sample to this one.
func (s Sample) Since(old Sample) Usage {
	u := Usage{Wall: s.at.Sub(old.at), CPU: s.self - old.self, Allocs: s.allocs - old.allocs, Bytes: s.size - old.size}
	total := time.Duration(s.all.total-old.all.total) * jiffy
	if total <= 0 {
		return u
	}
	part := func(d time.Duration) float64 { return max(0, float64(d)/float64(total)) }
	u.Steal = part(time.Duration(s.all.steal-old.all.steal) * jiffy)
	u.Others = part(time.Duration(s.all.busy-old.all.busy)*jiffy - u.CPU)
	u.OthersUser = part(time.Duration(s.all.user-old.all.user)*jiffy - (s.user - old.user))
	return u
}

// The rule by which points are dropped, fixed before anything is measured.
const (
	QuietSyncs      = 5000 // fdatasync per second, more than which a quiet disk does
	quietOthersUser = 0.05 // and of the CPU others may use at most this in the probe
	maxSteal        = 0.01 // of the CPU, in a point
	maxOthersUser   = 0.05 // of the CPU, in a point
	probeTime       = 250 * time.Millisecond
)

// A Probe is a look at the machine while we do nothing but sync.
type Probe struct {
	Syncs      float64 // fdatasync of 128 bytes, per second
	Steal      float64 // part of the CPU time
	OthersUser float64
	Waited     time.Duration `json:",omitempty"` // for it to become quiet
}

// Quiet reports whether nobody disturbs.
func (p Probe) Quiet() bool {
	return p.Syncs > QuietSyncs && p.Steal == 0 && p.OthersUser <= quietOthersUser
}

// TakeProbe probes the disk of a directory and the CPU.
func TakeProbe(dir string) (p Probe, err error) {
	f, err := os.Create(filepath.Join(dir, "probe"))
	if err != nil {
		return p, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := f.Write(make([]byte, 1<<20)); err != nil {
		return p, err
	}
	if err := f.Sync(); err != nil {
		return p, err
	}
	block := Payload(128)
	before, n := TakeSample(), 0
	for ; time.Since(before.at) < probeTime; n++ {
		if _, err := f.WriteAt(block, int64(n*len(block)%(1<<20))); err != nil {
			return p, err
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			return p, err
		}
	}
	u := TakeSample().Since(before)
	return Probe{Syncs: float64(n) / u.Wall.Seconds(), Steal: u.Steal, OthersUser: u.OthersUser}, nil
}

// AwaitQuiet probes until the machine is quiet or wait is over, and returns the last probe.
func AwaitQuiet(ctx context.Context, dir string, wait time.Duration) (Probe, error) {
	begin := time.Now()
	for {
		p, err := TakeProbe(dir)
		if p.Waited = time.Since(begin); err != nil || p.Quiet() || p.Waited >= wait {
			return p, err
		}
		if err := sleep(ctx, 500*time.Millisecond); err != nil {
			return p, err
		}
	}
}

// Disturbed returns why a point does not count; empty: it does.
func Disturbed(before Probe, u Usage, errors uint64) []string {
	var why []string
	if !before.Quiet() {
		why = append(why, "not quiet before")
	}
	if u.Steal > maxSteal {
		why = append(why, fmt.Sprintf("steal %.1f %%", 100*u.Steal))
	}
	if u.OthersUser > maxOthersUser {
		why = append(why, fmt.Sprintf("others %.1f %%", 100*u.OthersUser))
	}
	if errors > 0 {
		why = append(why, fmt.Sprintf("%d errors", errors))
	}
	return why
}

// CheckDisk refuses directories in memory: syncs cost nothing there.
func CheckDisk(dir string) error {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return err
	}
	const tmpfs, ramfs = 0x01021994, 0x858458f6
	switch uint32(s.Type) {
	case tmpfs, ramfs:
		return fmt.Errorf("%s is in memory; choose a directory on a disk", dir)
	}
	return nil
}

// Machine says in a line where this is.
func Machine() string {
	cpu := ""
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
				cpu = ", " + strings.TrimSpace(v)
				break
			}
		}
	}
	return fmt.Sprintf("%s/%s, %s, %d processors%s", runtime.GOOS, runtime.GOARCH, runtime.Version(), runtime.NumCPU(), cpu)
}
