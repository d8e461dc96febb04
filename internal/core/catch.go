package core

import "fmt"

// Catch turns a panic of raft into an error. Raft panics when an invariant of its own is broken, by
// damaged data or a bug; the member must stop then, and the process must not.
func Catch(what string, err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("baton: %s: panic: %v", what, p)
	}
}
