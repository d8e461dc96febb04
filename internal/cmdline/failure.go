package cmdline

import (
	"errors"
	"io/fs"
	"strings"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/ha/client"
	"github.com/baton-ha/baton/internal/agent"
	"github.com/baton-ha/baton/storage"
)

// A failure is a kind of error, with the exit code and what to do. The first line that fits counts.
type failure struct {
	is     func(error) bool
	code   int
	advice string
}

func is(target error) func(error) bool { return func(err error) bool { return errors.Is(err, target) } }

func as[T error](err error) bool {
	var target T
	return errors.As(err, &target)
}

func because(reasons ...client.Reason) func(error) bool {
	return func(err error) bool { return named(err, reasons...) }
}

var failures = []failure{
	{is(errUnwell), ExitUnwell, ""},
	{is(errDamaged), ExitDamaged, "`baton inspect` shows what is there. A member whose directory is damaged is replaced: see docs, \"Operating\"."},

	{is(client.ErrUnknown), ExitUnknown, "It may have been done, or may be yet: look at `baton status`, or `baton tail`, before you do it again."},
	{is(client.ErrAnswerLost), ExitUnknown, "It was done once; only the answer is lost. Do not do it again."},
	{is(client.ErrWrongCluster), ExitRefused, "-cluster (BATON_CLUSTER) must be the name of the cluster that is there."},
	{is(client.ErrVersion), ExitRefused, "Use a baton of the version that the members' programs were built with."},
	{is(client.ErrNotOperator), ExitRefused, "It takes an operator's certificate, with the URI baton://CLUSTER/operator: `baton cert` makes one; give it as -cert and -key."},
	{is(client.ErrUnauthorized), ExitRefused, "Both sides must trust one authority: give -ca, -cert and -key of `baton cert`; for commands that change something those of the operator."},
	{is(client.ErrRefused), ExitRefused, "Every member that was asked has refused. Where the members have TLS, give -ca, -cert and -key; where they do not, give none."},
	{is(client.ErrNoMember), ExitRefused, "`baton status` shows the names of the members."},
	{because(client.ReasonNoMember), ExitRefused, "`baton status` shows the names of the members."},
	{because(client.ReasonNewcomer), ExitRefused, "Start the new member's program first, with an empty directory and Config.Join, at that address and under that name."},
	{because(client.ReasonQuorum), ExitRefused, "Bring members back, or remove those that are lost, until a majority of what there would be is there."},
	{because(client.ReasonNotCaughtUp), ExitRefused, "Wait until it has caught up: `baton status -watch` shows its lag."},
	{because(client.ReasonChanging, client.ReasonOutdated), ExitRefused, "Try again in a moment."},
	{because(client.ReasonNoLeader), ExitUnreached, "`baton status` shows who is there; a majority of the voters must be."},
	{because(client.ReasonNoSuccessor, client.ReasonNotChosen), ExitRefused, "`baton status` shows what stands in the way of each member."},
	{because(client.ReasonNotHandedOver), ExitRefused, "The old Active goes on. `baton why -last 1` says what was in the way."},
	{as[*client.ChangeError], ExitRefused, ""},
	{is(client.ErrNoActive), ExitUnreached, "`baton status` shows what stands in the way, and `baton why` how it came to it."},
	{is(client.ErrUnreachable), ExitUnreached, "-addr (BATON_ADDR, or a context) must name members that run; with TLS on one side only nobody is understood. -verbose shows each try."},
	{is(client.ErrCompacted), ExitFailed, "Begin with a later record: -from as the line above says, or without -from at the first that is held."},
	{as[*client.CallError], ExitRefused, ""},
	{is(client.ErrBusy), ExitRefused, "The Active has as much to do as it takes: try again, with fewer -writers."},
	{is(client.ErrNoRoom), ExitRefused, "The Active's disk is nearly full: make room there."},
	{is(client.ErrTooLarge), ExitRefused, ""},

	{is(agent.ErrUnknown), ExitUnknown, "Commit again: it does no harm."},
	{is(agent.ErrNotCommitted), ExitRefused, "What was committed before stands."},
	{is(agent.ErrNotReached), ExitUnreached, "The socket is there while this host's member is Active: the agent's dir with .commit behind it, BATON_COMMIT for its program."},

	{as[*ha.BackupError], ExitDamaged, "Use another backup. One that was cut off on its way is not whole."},
	{as[*storage.CorruptError], ExitDamaged, "`baton verify` names everything that is damaged there."},
	{is(storage.ErrLocked), ExitRefused, "A process has the directory open: stop it first. `baton inspect` works while it runs."},
	{is(storage.ErrNotEmpty), ExitRefused, "-dir must be absent or empty."},
	{is(storage.ErrForeign), ExitRefused, "Is that the directory of a member? It holds files that are not baton's."},
	{is(ha.ErrNothing), ExitRefused, "That member has never belonged to a cluster."},
	{is(storage.ErrNoMember), ExitUsage, "It is Config.Dir of the member's program, on the member's own host, or dir of its agent."},
	{as[configError], ExitUsage, ""},
	{is(fs.ErrNotExist), ExitUsage, ""},
	{is(fs.ErrExist), ExitUsage, "-force overwrites it."},
}

// adviceFor says what to do about an error; "" where its text says all.
func adviceFor(err error) string {
	for _, line := range failures {
		if line.is(err) {
			return line.advice
		}
	}
	if as[usageError](err) {
		return "-h shows how it is used."
	}
	return ""
}

// textOf is an error in words. Packages say who they are, which is no news here.
func textOf(err error) string {
	return strings.ReplaceAll(strings.TrimPrefix(err.Error(), "baton: "), ": baton: ", ": ")
}
