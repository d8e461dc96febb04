package cmdline

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v3"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/ha/client"
	"github.com/baton-ha/baton/internal/agent"
	"github.com/baton-ha/baton/storage"
)

func TestCodes(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	refused := func(r client.Reason) error { return &client.ChangeError{Change: "x", Reason: r} }
	for _, x := range []struct {
		err  error
		code int
	}{
		{usage("x"), ExitUsage},
		{usageError{fs.ErrNotExist}, ExitUsage},
		{errUnwell, ExitUnwell},
		{fmt.Errorf("x: %w", agent.ErrUnknown), ExitUnknown},
		{fmt.Errorf("x: %w: %w", agent.ErrNotReached, fs.ErrNotExist), ExitUnreached},
		{errDamaged, ExitDamaged},
		{client.ErrUnknown, ExitUnknown},
		{fmt.Errorf("%w: %w", client.ErrUnknown, client.ErrSessionExpired), ExitUnknown},
		{fmt.Errorf("%w: %w", client.ErrUnknown, errTimeout), ExitUnknown},
		{client.ErrAnswerLost, ExitUnknown},
		{client.ErrWrongCluster, ExitRefused},
		{client.ErrUnauthorized, ExitRefused},
		{client.ErrVersion, ExitRefused},
		{client.ErrRefused, ExitRefused},
		{client.ErrNotOperator, ExitRefused},
		{client.ErrNoMember, ExitRefused},
		{client.ErrUnreachable, ExitUnreached},
		{fmt.Errorf("%w: %w", client.ErrNoActive, errTimeout), ExitUnreached},
		{errTimeout, ExitUnreached},
		{&client.CallError{Text: "no"}, ExitRefused},
		{client.ErrBusy, ExitRefused},
		{client.ErrNoRoom, ExitRefused},
		{client.ErrTooLarge, ExitRefused},
		{&client.CompactedError{Index: 1, First: 2}, ExitFailed},
		{refused(client.ReasonQuorum), ExitRefused},
		{refused(client.ReasonLastVoter), ExitRefused},
		{refused(client.ReasonNoLeader), ExitUnreached},
		{refused(99), ExitRefused},
		{&ha.BackupError{}, ExitDamaged},
		{&storage.CorruptError{Err: errors.New("x")}, ExitDamaged},
		{storage.ErrLocked, ExitRefused},
		{fs.ErrExist, ExitUsage},
		{errors.New("x"), ExitFailed},
	} {
		if got := codeOf(t.Context(), x.err); got != x.code {
			t.Errorf("%v: code %d, want %d", x.err, got, x.code)
		}
	}
	if got := codeOf(ended, context.Canceled); got != ExitInterrupted {
		t.Errorf("interrupted: %d", got)
	}
	if got := reached(&net.OpError{Op: "dial", Err: errors.New("x")}); !errors.Is(got, client.ErrUnreachable) {
		t.Errorf("a dial that fails: %v", got)
	}
	if got := reached(&fs.PathError{Op: "write", Err: errors.New("full")}); errors.Is(got, client.ErrUnreachable) {
		t.Errorf("a file that cannot be written: %v", got)
	}
	var listed []int
	for _, c := range codes {
		listed = append(listed, c.code)
	}
	for _, line := range failures {
		if !slices.Contains(listed, line.code) {
			t.Errorf("code %d is not listed", line.code)
		}
	}
}

// Whatever flag or command an advice or an example names exists.
func TestAdvice(t *testing.T) {
	root := Root()
	flags, commands := map[string]bool{"h": true}, map[string]bool{"completion": true}
	var texts []string
	var walk func(c *cli.Command, name string)
	walk = func(c *cli.Command, name string) {
		commands[name] = true
		texts = append(texts, c.Description)
		for _, f := range c.Flags {
			texts = append(texts, f.(cli.DocGenerationFlag).GetUsage())
			for _, n := range f.Names() {
				flags[n] = true
			}
		}
		for _, sub := range c.Commands {
			walk(sub, strings.TrimSpace(name+" "+sub.Name))
		}
	}
	walk(root, "")
	for _, line := range failures {
		texts = append(texts, line.advice)
	}
	flagIn, commandIn := regexp.MustCompile(`(?:^|[ (])-([a-z][a-z-]*)`), regexp.MustCompile("(?m)(?:^    |`)baton ([a-z-]+)")
	for _, text := range texts {
		for _, m := range flagIn.FindAllStringSubmatch(regexp.MustCompile(`(?m)\| (jq|tail|ssh).*$`).ReplaceAllString(text, ""), -1) {
			if !flags[m[1]] {
				t.Errorf("there is no flag -%s: %q", m[1], text)
			}
		}
		for _, m := range commandIn.FindAllStringSubmatch(text, -1) {
			if m[1][0] != '-' && !commands[m[1]] {
				t.Errorf("there is no command %q: %q", m[1], text)
			}
		}
	}
	for name := range commands {
		if name != "" && name != "version" && name != "agent" && name != "completion" && !slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(text, "    baton "+name) }) {
			t.Errorf("command %q has no example", name)
		}
	}
}

func TestPage(t *testing.T) {
	page := pageOf("first\n* second\n! third\nfourth\nfifth, which is long", 10, 4)
	want := "\x1b[H\x1b[1mfirst\x1b[0m\x1b[K\r\n\x1b[1m* second\x1b[0m\x1b[K\r\n\x1b[31m! third\x1b[0m\x1b[K\r\nfifth, whi\x1b[K\x1b[J"
	if page != want {
		t.Errorf("%q, want %q", page, want)
	}
	if got := printable("a\x1b[2J\nb\u202ec"); got != "a [2J b c" {
		t.Errorf("%q", got)
	}
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1536: "1.5 KiB", 5 << 30: "5.0 GiB", 1 << 60: "1048576.0 TiB"} {
		if got := bytesOf(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
	for in, want := range map[string]string{"text": "text", "two\nlines": `"two\nlines"`, "\xff": `"\xff"`, "grün": "grün"} {
		if got := shown([]byte(in)); got != want {
			t.Errorf("%q is shown as %s, want %s", in, got, want)
		}
	}
}

// Of a member that is not reached the others tell, the one that has heard it last; how one is that is reached it says itself.
func TestOverview(t *testing.T) {
	said := func(name string, epoch uint64, active string, others ...client.MemberStatus) observed {
		return observed{Name: name, own: &client.Report{Cluster: "c", ClusterID: "00ab", Status: client.Status{Name: name, State: "Standby", Epoch: epoch, Active: active}, Members: others}}
	}
	waits := said("e", 0, "")
	waits.own.Status.State = "Joining"
	o := &overview{Members: []observed{
		said("b", 2, "a", client.MemberStatus{Name: "b", State: "Standby"}, client.MemberStatus{Name: "a", State: "Standby", Liveness: "Suspect"}),
		said("a", 3, "", client.MemberStatus{Name: "a", Liveness: "Alive"}, client.MemberStatus{Name: "b", State: "Active", Liveness: "Dead"},
			client.MemberStatus{Name: "e", State: "Failed", Epoch: 2, Kind: "voter"}),
		{Name: "d", Addr: "h:4", Err: "refused"},
		waits,
	}}
	o.gather()
	if o.Epoch != 3 || o.Active != "" || o.Members[0].Name != "a" || o.Members[0].heard.Liveness != "Alive" || o.Members[1].heard.State != "Standby" {
		t.Errorf("%+v", o)
	}
	if e := o.Members[3].heard; e.State != "Joining" || e.Epoch != 0 || e.Kind != "voter" {
		t.Errorf("a new directory is listed as %+v", e)
	}
	if o.check() == nil || !strings.Contains(o.table(nil), "! nobody is Active") || !strings.Contains(o.table(nil), "! d was not reached: refused") {
		t.Errorf("%s", o.table(nil))
	}
}

// TestHelp: help is what -h shows, of each command.
func TestHelp(t *testing.T) {
	shown := func(args ...string) (string, error) {
		var out strings.Builder
		root := Root()
		root.Writer = &out
		err := root.Run(t.Context(), append([]string{"baton"}, args...))
		return out.String(), err
	}
	for _, words := range []string{"", "epochs", "members", "members add"} {
		want, _ := shown(append(strings.Fields(words), "-h")...)
		got, err := shown(append([]string{"help"}, strings.Fields(words)...)...)
		if err != nil || want == "" || got != want {
			t.Errorf("help %s: %v\n%s\nwant\n%s", words, err, got, want)
		}
	}
	if _, err := shown("help", "epoch"); !errors.As(err, new(usageError)) {
		t.Errorf("help of what is no command: %v", err)
	}
}
