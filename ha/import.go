package ha

import (
	"context"
	"fmt"
	"io"

	"github.com/baton-ha/baton/log"
)

// Import makes the only member of a new cluster of a state from elsewhere, as the StateMachine's Restore will read it: of a
// program that has kept its state by other means before. Its first record will have the index behind the one given, 0 meaning that there were none: programs that
// keep numbers of another log in their state can go on counting. What else is said of [Restore] holds here, too; [NewCluster.EpochAbove] is for a program that has given out
// numbers as tokens before. The state is read once, to its end, and not looked at: when the StateMachine cannot restore it, Open says so. Errors are those of Restore.
func Import(ctx context.Context, state io.Reader, index uint64, to NewCluster) error {
	if err := to.validate(); err != nil {
		return err
	}
	if err := to.found(log.SeedOfState(ctx, state, index)); err != nil {
		return fmt.Errorf("baton: import into %s: %w", to.Dir, err)
	}
	return nil
}
