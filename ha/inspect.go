package ha

import (
	"encoding/hex"
	"fmt"

	"github.com/baton-ha/baton/log"
	"github.com/baton-ha/baton/storage"
)

// An Inspection is what is in the directory of a member, as its files say.
type Inspection struct {
	*storage.Inspection
	ClusterID string `json:"cluster_id"` // hexadecimal, zeros before the first epoch
	// Checkpoint is what the newest snapshot says, without its state: what came after it is in the log, which is not read.
	Checkpoint log.CheckpointInfo `json:"checkpoint"`
	// Events is how many events the directory has, of which the last is Last; zero if there are none.
	Events int   `json:"events"`
	Last   Event `json:"last_event"`
}

// Inspect looks into a member's directory, which a running member may have open: it takes no lock and writes nothing. It is quick, and
// proves nothing: [storage.Verify] reads every byte, and [Survey] the whole log, both of a member that does not run. Errors are those of
// [storage.Inspect]; what cannot be read beside the identity is in Faults.
func Inspect(dir string) (Inspection, error) {
	files, err := storage.Inspect(dir)
	if err != nil {
		return Inspection{}, fmt.Errorf("baton: inspect %s: %w", dir, err)
	}
	x := Inspection{Inspection: files, ClusterID: hex.EncodeToString(files.ClusterID[:])}
	if files.Newest != nil {
		if x.Checkpoint, err = log.ReadCheckpoint(files.Newest); err != nil {
			files.Faults = append(files.Faults, firstLine(err))
		}
	}
	if events, err := readEvents(dir); err == nil && len(events) > 0 {
		x.Events, x.Last = len(events), events[len(events)-1]
	}
	return x, nil
}
