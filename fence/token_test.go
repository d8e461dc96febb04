package fence_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/baton-ha/baton/fence"
)

func TestTokenForms(t *testing.T) {
	for _, tok := range []fence.Token{
		{Cluster: "jobs", Epoch: 1, Holder: "a"},
		{Cluster: "a.b-c_D9", Epoch: 1<<64 - 1, Holder: strings.Repeat("x", fence.MaxName)},
	} {
		parsed, err := fence.Parse(tok.String())
		if err != nil || parsed != tok {
			t.Errorf("Parse(%q) = %v, %v", tok.String(), parsed, err)
		}
		b, err := tok.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		var back fence.Token
		if err := back.UnmarshalBinary(b); err != nil || back != tok {
			t.Errorf("binary of %v came back as %v, %v", tok, back, err)
		}
		j, err := json.Marshal(map[string]fence.Token{"t": tok})
		if err != nil {
			t.Fatal(err)
		}
		var m map[string]fence.Token
		if err := json.Unmarshal(j, &m); err != nil || m["t"] != tok {
			t.Errorf("JSON %s came back as %v, %v", j, m, err)
		}
		for n := range b {
			if err := back.UnmarshalBinary(b[:n]); !errors.Is(err, fence.ErrInvalid) {
				t.Errorf("first %d bytes of the binary form: %v", n, err)
			}
		}
		if err := back.UnmarshalBinary(append(b, 0)); !errors.Is(err, fence.ErrInvalid) {
			t.Errorf("a byte too many: %v", err)
		}
	}
}

func TestTokenInvalid(t *testing.T) {
	for _, s := range []string{
		"", "none", "jobs/1", "jobs/0/a", "jobs/01/a", "jobs/+1/a", "jobs/1/a/b", "jo bs/1/a", "/1/a", "jobs/1/",
		"jobs/18446744073709551616/a", "jobs/-1/a", strings.Repeat("x", fence.MaxName+1) + "/1/a", strings.Repeat("/", 1<<20),
	} {
		if tok, err := fence.Parse(s); !errors.Is(err, fence.ErrInvalid) || len(err.Error()) > 1000 {
			t.Errorf("Parse(%.20q) = %v, %.100v", s, tok, err)
		}
	}
	var zero fence.Token
	if zero.Valid() {
		t.Error("the zero token is valid")
	}
	if b, err := zero.MarshalText(); err != nil || len(b) != 0 {
		t.Errorf("MarshalText of the zero token: %q, %v", b, err)
	}
	if b, err := (fence.Token{Cluster: "jobs"}).MarshalText(); !errors.Is(err, fence.ErrInvalid) {
		t.Errorf("MarshalText of half a token: %q, %v", b, err)
	}
	read := fence.Token{Cluster: "jobs", Epoch: 3, Holder: "a"}
	if err := read.UnmarshalText(nil); err != nil || read != zero {
		t.Errorf("UnmarshalText of nothing: %v, %v", read, err)
	}
	if _, err := zero.MarshalBinary(); !errors.Is(err, fence.ErrInvalid) {
		t.Errorf("MarshalBinary of the zero token: %v", err)
	}
	before := fence.Token{Cluster: "jobs", Epoch: 3, Holder: "a"}
	after := before
	if err := after.UnmarshalText([]byte("bad")); err == nil || after != before {
		t.Errorf("a failed UnmarshalText left %v, %v", after, err)
	}
}

func TestTokenOrder(t *testing.T) {
	a1 := fence.Token{Cluster: "jobs", Epoch: 1, Holder: "a"}
	b2 := fence.Token{Cluster: "jobs", Epoch: 2, Holder: "b"}
	a10 := fence.Token{Cluster: "jobs", Epoch: 10, Holder: "a"}
	other := fence.Token{Cluster: "mail", Epoch: 99, Holder: "a"}
	if !b2.Supersedes(a1) || a1.Supersedes(b2) || a1.Supersedes(a1) {
		t.Error("order by epoch")
	}
	if other.Supersedes(a1) || a1.Supersedes(other) || b2.Supersedes(fence.Token{}) || (fence.Token{}).Supersedes(a1) {
		t.Error("tokens that say nothing about each other supersede each other")
	}
	got := []fence.Token{other, a10, b2, a1}
	slices.SortFunc(got, fence.Token.Compare)
	if want := []fence.Token{a1, b2, a10, other}; !slices.Equal(got, want) {
		t.Errorf("sorted: %v, want %v", got, want)
	}
}

func FuzzTokenBinary(f *testing.F) {
	b, _ := fence.Token{Cluster: "jobs", Epoch: 7, Holder: "a"}.MarshalBinary()
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		var tok fence.Token
		if tok.UnmarshalBinary(b) != nil {
			return
		}
		again, err := tok.MarshalBinary()
		if err != nil || string(again) != string(b) {
			t.Fatalf("%x decodes to %v, which encodes to %x, %v", b, tok, again, err)
		}
	})
}

func ExampleToken_Supersedes() {
	old := fence.Token{Cluster: "jobs", Epoch: 7, Holder: "a"}
	next := fence.Token{Cluster: "jobs", Epoch: 8, Holder: "b"}
	fmt.Println(next, "fences off", old, next.Supersedes(old))
	// Output: jobs/8/b fences off jobs/7/a true
}
