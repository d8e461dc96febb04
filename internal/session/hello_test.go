package session

import (
	"errors"
	"testing"
)

func TestVersionsAreJudged(t *testing.T) {
	own := Hello{Version: Version, Name: "a", Instance: 1}
	if r := judge(own, Hello{Version: MinVersion - 1, Name: "b", Instance: 2, To: "a"}, ""); !errors.Is(r, ErrVersion) {
		t.Errorf("version too old: %v", r)
	}
	if r := judge(own, Hello{Version: Version + 1, Name: "b", Instance: 2, To: "a"}, ""); r != nil {
		t.Errorf("a newer version is for the newer side to refuse: %v", r)
	}
}

// Who waits to be added may be asked who it is, and may ask. Everything else needs to be known, by name and by id.
func TestPeersAreJudged(t *testing.T) {
	known := func(name string) (Peer, bool) {
		return map[string]Peer{"b": {ID: 2, Name: "b"}, "c": {Name: "c"}}[name], name == "b" || name == "c"
	}
	for _, test := range []struct {
		what       string
		own, other Hello
		want       error
	}{
		{"a peer", Hello{}, Hello{Name: "b", ID: 2}, nil},
		{"another id", Hello{}, Hello{Name: "b", ID: 3}, ErrIDMismatch},
		{"any id", Hello{}, Hello{Name: "c", ID: 3}, nil},
		{"nobody's name", Hello{}, Hello{Name: "d", ID: 4}, ErrUnknownMember},
		{"a question of who is nobody's peer", Hello{Purpose: PurposeProbe}, Hello{Name: "d", ID: 4}, ErrUnknownMember},
		{"a question of who joins", Hello{Purpose: PurposeProbe}, Hello{Name: "d", ID: 4, Joining: true}, nil},
		{"a question to who joins", Hello{Purpose: PurposeProbe, Joining: true}, Hello{Name: "d", ID: 4}, nil},
		{"who joins, with more than a question", Hello{Purpose: PurposeBulk}, Hello{Name: "d", ID: 4, Joining: true}, ErrUnknownMember},
		{"lists of two that are new", Hello{Members: []string{"a", "b"}}, Hello{Name: "b", ID: 2, Members: []string{"b"}}, ErrMemberList},
		{"a list of one that is new", Hello{}, Hello{Name: "b", ID: 2, Members: []string{"b"}}, nil},
	} {
		r := judgePeer(test.own, test.other, known)
		if (r == nil) != (test.want == nil) || r != nil && !errors.Is(r, test.want) {
			t.Errorf("%s: %v, want %v", test.what, r, test.want)
		}
	}
}

func TestHelloOfTooLongAList(t *testing.T) {
	for what, list := range map[string][]Peer{"members": make([]Peer, maxList+1), "name": {{ID: 1, Name: string(make([]byte, maxName+1))}}} {
		b, err := EncodeHello(Hello{Name: "a", List: list})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeHello(b); err == nil {
			t.Errorf("too many or too long: %s: taken", what)
		}
	}
}
