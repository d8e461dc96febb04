package onfence_test

import (
	"context"
	"fmt"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/ha/onfence"
)

// A command finds in its environment who is to be kept out. The first fence that succeeds ends the search.
func ExampleFirst() {
	cfg := ha.Config{
		OnFence: onfence.First(
			onfence.Command("/bin/false"), // a switch that does not answer
			onfence.Command("/bin/sh", "-c", `test "$BATON_PREVIOUS_ADDR" = 10.0.0.1:7000`),
		),
	}
	err := cfg.OnFence(context.Background(), ha.Previous{Name: "a", Addr: "10.0.0.1:7000", Epoch: 7, Ended: ha.EndedLease, By: "b"})
	fmt.Println(err)
	// Output: <nil>
}
