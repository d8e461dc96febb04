package watchdog_test

import (
	"errors"
	"fmt"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/ha/watchdog"
)

// A program that runs under systemd with WatchdogSec=, or without.
func ExampleNewSystemd() {
	var cfg ha.Config
	switch w, err := watchdog.NewSystemd(); {
	case errors.Is(err, watchdog.ErrNone): // nobody watches: it goes on without
	case err != nil:
		fmt.Println(err)
	default:
		cfg.Watchdog = w
	}
	fmt.Println("watched:", cfg.Watchdog != nil)
	// Output: watched: false
}
