// Package heir has the connections of a process that is killed end before its memory is given back.
//
// A process that dies gives its memory back first, on Linux, and closes its files afterwards, so that the others hear of its end the later the
// more memory it has: 75 µs for each MiB of it, which is 600 ms for 8 GiB. Memory is given back by the last process that has it. So an heir is
// started: a process that shares the memory, has no file of its own but one end of a pair of sockets, and waits until the other end is closed, which it
// is when this process ends, however it ends, or runs another program. Then it ends, too, and what the memory takes to be given back is nobody's concern any more.
//
// An heir runs nothing of this program but a few system calls that are written out in assembly: no stack, no goroutine, no signal but SIGKILL and SIGSTOP, and no
// system call but what it needs (seccomp). Nothing rests on it: where there is none, or it was killed, a process ends as it did before.
package heir

import "sync"

// present is the heir of this process, of which there is at most one.
var present struct {
	sync.Mutex
	holders int
	end     func() // nil while there is none
}

// Hold starts the heir of this process if it has none, and returns how to let go of it: the heir ends with the last who does. An error says that there
// is none; nothing is to be let go of then. On systems that have no such thing there is neither. Any goroutine may call it.
func Hold() (release func(), err error) {
	present.Lock()
	defer present.Unlock()
	if present.end == nil {
		if present.end, err = start(); err != nil {
			return func() {}, err
		}
	}
	present.holders++
	return sync.OnceFunc(func() {
		present.Lock()
		defer present.Unlock()
		if present.holders--; present.holders == 0 {
			present.end()
			present.end = nil
		}
	}), nil
}
