package fence

import "fmt"

// A StaleError says that a token was refused because a newer Active has been at the resource. It is
// returned by [Check], by [Guard], and by every fence in the packages below this one. Whoever gets it
// is deposed: nothing it still wants to do will be accepted here.
type StaleError struct {
	Token Token // what came
	Known Token // what the resource knows
}

func (e *StaleError) Error() string {
	return fmt.Sprintf("fence: token %s is stale: %s has been here", e.Token, e.Known)
}

// A ForeignError says that a token was refused because it is of another cluster than the resource.
type ForeignError struct {
	Token   Token  // what came
	Cluster string // whose the resource is
}

func (e *ForeignError) Error() string {
	return fmt.Sprintf("fence: token %s is not of cluster %s", e.Token, e.Cluster)
}

// Check is the rule that all fences share. It says whether a resource that knows one token as its
// highest may do what is asked with token t: nil if nothing is known (the zero Token), if t is the
// known one, or if t supersedes it. Otherwise the error is a *[ForeignError], a *[StaleError] (also for
// two holders of one epoch, which no cluster gives out: who came first stays), or wraps [ErrInvalid].
//
// Who uses it by hand must remember t durably before doing the work, and must keep anybody with an
// older token from finishing after that. [Guard] does both.
func Check(t, known Token) error {
	switch {
	case !t.Valid():
		return fmt.Errorf("%w: %s", ErrInvalid, clip(t.String()))
	case known == (Token{}) || t == known:
		return nil
	case t.Cluster != known.Cluster:
		return &ForeignError{Token: t, Cluster: known.Cluster}
	case t.Supersedes(known):
		return nil
	}
	return &StaleError{Token: t, Known: known}
}
