package sim

import "time"

// A Process is what dies in a crash and stands still while it is paused: what is to happen to it happens to the life
// in which it was asked for, or not at all.
type Process struct {
	world  *World
	life   int // tells a life from those before it
	up     bool
	paused bool
	missed []func() // what was due while it was paused
}

// NewProcess returns a process that is not up.
func (w *World) NewProcess() *Process { return &Process{world: w} }

// Begin begins a life.
func (p *Process) Begin() {
	p.life++
	p.up, p.paused, p.missed = true, false, nil
}

// End ends it, and all that was to happen to it.
func (p *Process) End() {
	p.life++
	p.up, p.paused, p.missed = false, false, nil
}

// Up reports whether the process lives.
func (p *Process) Up() bool { return p.up }

// Paused reports whether it stands still.
func (p *Process) Paused() bool { return p.paused }

// Life is the number of the present life.
func (p *Process) Life() int { return p.life }

// After lets f happen to this life a while from now; if it is paused then, when it goes on.
func (p *Process) After(d time.Duration, f func()) {
	p.world.queue.push(p.world.now+max(d, 0), event{do: f, process: p, life: p.life})
}

// happen lets f happen to a life now. To who is dead nothing does.
func (p *Process) happen(life int, f func()) {
	switch {
	case p.life != life, !p.up:
	case p.paused:
		p.missed = append(p.missed, f)
	default:
		f()
	}
}

// Do lets f happen to this life now; if it is paused, when it goes on.
func (p *Process) Do(f func()) { p.happen(p.life, f) }

// Pause stops the process for a while, as SIGSTOP does.
func (p *Process) Pause(lasts time.Duration) {
	if !p.up || p.paused {
		return
	}
	p.paused = true
	life := p.life
	p.world.After(lasts, func() {
		if p.life == life {
			p.Resume()
		}
	})
}

// Resume lets a paused process go on, first with what it has missed.
func (p *Process) Resume() {
	p.paused = false
	missed := p.missed
	p.missed = nil
	for _, f := range missed {
		p.After(p.world.Between(0, 100*time.Microsecond), f)
	}
}
