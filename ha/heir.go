package ha

import "github.com/baton-ha/baton/internal/heir"

// shareMemory has the others hear of the end of this process before its memory is given back, where they take that for evidence. It returns how
// to let that be.
func (n *Node) shareMemory() (letGo func()) {
	if n.cfg.NoCrashEvidence || n.cfg.NoHeir {
		return func() {}
	}
	letGo, err := heir.Hold()
	if err != nil {
		n.cfg.Logger.Info("the others will hear of a crash of this process only when its memory was given back", "member", n.cfg.Name, "err", err)
	}
	return letGo
}
