package core

import "time"

// An Observer is stepped, on the goroutine that owns the core, with all that changes and with what was posted that is neither
// an [Event] nor a [Change], and with what is known then. It returns events for the core to be stepped with next. It must not block.
type Observer interface {
	Changed(now time.Duration, view View, change Change) []Event
	Posted(now time.Duration, view View, mail Mail) []Event
}

// Drive steps the core and the observer with what was posted, the observer with what changes, and the core with what the
// observer answers, until nobody has more to say. It returns the effects of all steps in order; they are valid until the core
// is driven or stepped again. It is what makes core and observer one machine with one mailbox, in the product and in the
// simulator alike.
func Drive(c *Core, o Observer, now time.Duration, posted []Mail) (Effects, error) {
	c.resume(now)
	own := c.events[:0]
	for _, m := range posted {
		switch m := m.(type) {
		case Event:
			own = append(own, m)
		case Change:
			own = append(own, o.Changed(now, c.View(now), m)...)
		default:
			own = append(own, o.Posted(now, c.View(now), m)...)
		}
	}
	c.eff.reset()
	for told := 0; len(own) > 0; {
		err := c.step(now, own)
		clear(own)
		own = own[:0]
		for ; told < len(c.eff.Changes); told++ {
			own = append(own, o.Changed(now, c.View(now), c.eff.Changes[told])...)
		}
		if err != nil {
			return c.eff, err
		}
	}
	c.events = own
	return c.eff, nil
}
