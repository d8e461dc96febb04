package session

import (
	"errors"
	"testing"
)

func TestVersionsAreJudged(t *testing.T) {
	own := Hello{Version: Version, Name: "a", Instance: 1}
	known := func(n string) (Peer, bool) { return Peer{Name: n}, true }
	if r := judge(own, Hello{Version: MinVersion - 1, Name: "b", Instance: 2, To: "a"}, "", known); !errors.Is(r, ErrVersion) {
		t.Errorf("version too old: %v", r)
	}
	if r := judge(own, Hello{Version: Version + 1, Name: "b", Instance: 2, To: "a"}, "", known); r != nil {
		t.Errorf("a newer version is for the newer side to refuse: %v", r)
	}
}
