package log

import "github.com/baton-ha/baton/internal/core"

// What workers have done mostly leads to nothing by itself: that a follower has written is for the leader to know, and is told it by the writer; that
// records are applied the appenders are told by the applier. To be woken for it would cost the loop more than what it then does. So such mail waits
// until the loop runs for another reason, at the latest for its clock.

// done leaves mail of a worker in the mailbox. The loop is woken for it unless it may wait.
//
// Invariant: no entry that is committed waits for mail that nobody is woken for. The loop says that some wait (held) before it takes what has come
// meanwhile, and only after that it sleeps; here it is the other way round.
func (d *driver) done(mail Mail, patient bool) {
	d.inbox.leave(mail, 0)
	if !patient || d.held.Load() {
		d.inbox.poke()
	}
}

// answer says that writes are durable.
func (d *driver) answer(writes []*core.Write) {
	at, patient := d.clock(), true
	for _, w := range writes {
		freshly(w.Bytes)
		w.At = at
		d.inbox.leave(core.Written{Write: w}, 0)
		patient = patient && w.Patient
	}
	if !patient || d.held.Load() {
		d.inbox.poke()
	}
}
