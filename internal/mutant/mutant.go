// Package mutant plants bugs, so that the simulator can show that it finds them.
//
// A mutant is a place in the code that misbehaves when its name is switched on. In an ordinary build
// [On] is a constant function, so the compiler removes every mutant; only a build with the tag
// "mutants" can switch one on, and only the tests of the simulator do.
package mutant

// The planted bugs. Each is a mistake that a real system of this kind has made or could make.
const (
	VoteNotPersisted   = "vote-not-persisted"    // a vote and a term are answered but never written
	SendBeforePersist  = "send-before-persist"   // answers leave before what they rest on is durable
	FenceOnlyAtPropose = "fence-only-at-propose" // a stale batch already in the log is applied
	LeaseFromRaft      = "lease-from-raft"       // whoever raft calls leader believes it holds the lease
	NoRestartGuard     = "no-restart-guard"      // a restarted voter votes at once, having forgotten its promise
	EpochIsTerm        = "epoch-is-term"         // the raft term serves as epoch
	IndexHoles         = "index-holes"           // a batch skips an index and nobody checks at apply
	AckBeforeApply     = "ack-before-apply"      // an append is acknowledged once it is in the leader's own log
	NoPromise          = "no-promise"            // a voter votes whenever it is asked, whatever it has promised
	EndlessRelease     = "endless-release"       // a hand-over releases a voter for good, also after the leader changed its mind
	NoBarrier          = "no-barrier"            // OnActive starts before older records are applied
	ForeignBase        = "foreign-base"          // a snapshot's receiver believes that it holds the log that its sender holds
	MergeOverlap       = "merge-overlap"         // writes of which one overwrites another are merged as they are
	StaleFate          = "stale-fate"            // losing leadership is reported as "never in the log"
	StackedSnapshots   = "stacked-snapshots"     // a snapshot is installed while the one before it is still being restored
	SupersededFails    = "superseded-fails"      // a snapshot that was superseded is reported as the failure of the one that is being sent
	CutUnderSnapshot   = "cut-under-snapshot"    // the log behind a snapshot is cut while that is on its way
	NoFallback         = "no-fallback"           // a member whose newest snapshot is damaged counts on the log that was cut for it
	StampGoesBack      = "stamp-goes-back"       // a heartbeat that comes late makes a promise older
	GuardHeard         = "guard-heard"           // a restarted voter's guard ends with the first heartbeat, which may be an old one
	GuardFromConfig    = "guard-from-config"     // the guard of a restarted voter lasts for its present timeout, not for what it had promised
	LeaseFromOwn       = "lease-from-own"        // a leader counts on promises as long as its own election timeout
	EvidenceByOwn      = "evidence-by-own"       // whether crash evidence counts is decided by whom it reaches, not by whom it is about
	NeverGivesWay      = "never-gives-way"       // a leader whose heartbeats pass leads on, though nothing commits
	CampaignUnapplied  = "campaign-unapplied"    // a member campaigns before a committed change of the members is in force
	LoopReads          = "loop-reads"            // whoever steps the core reads old entries from disk itself
	NeverStarved       = "never-starved"         // a member does not notice that it is woken late
	NoFsync            = "no-fsync"              // writes are reported durable before they are synced
	BirthByMajority    = "birth-by-majority"     // a new cluster begins as soon as a majority of its members is new
)
