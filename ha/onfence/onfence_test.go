package onfence_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/ha/onfence"
)

var previous = ha.Previous{Name: "a", Addr: "10.0.0.1:7001", Epoch: 7, Ended: ha.EndedLease, By: "b"}

func TestCommand(t *testing.T) {
	env := `test "$BATON_MEMBER $BATON_PREVIOUS $BATON_PREVIOUS_ADDR $BATON_PREVIOUS_EPOCH $BATON_PREVIOUS_ENDED" = "b a 10.0.0.1:7001 7 lease-expired"`
	if err := onfence.Command("sh", "-c", env)(t.Context(), previous); err != nil {
		t.Error(err)
	}
	err := onfence.Command("sh", "-c", "echo no power >&2; exit 3")(t.Context(), previous)
	if err == nil || !strings.Contains(err.Error(), "exit status 3: no power") {
		t.Errorf("a command that fails: %v", err)
	}
	if err := onfence.Command("/no/such/command")(t.Context(), previous); err == nil {
		t.Error("a command that is not there has fenced")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := onfence.Command("sleep", "1000")(ctx, previous); err == nil {
		t.Error("a command that was killed has fenced")
	}
}

func TestHTTP(t *testing.T) {
	status := http.StatusOK
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		want := `{"member":"b","previous":"a","addr":"10.0.0.1:7001","epoch":7,"ended":"lease-expired"}`
		if r.Method != http.MethodPost || string(body) != want {
			t.Errorf("%s %s, want POST %s", r.Method, body, want)
		}
		w.WriteHeader(status)
		io.WriteString(w, "it hangs\n")
	}))
	defer srv.Close()
	fence := onfence.HTTP(nil, srv.URL)
	if err := fence(t.Context(), previous); err != nil {
		t.Error(err)
	}
	status = http.StatusBadGateway
	if err := fence(t.Context(), previous); err == nil || !strings.Contains(err.Error(), "502 Bad Gateway: it hangs") {
		t.Errorf("an answer of 502: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := fence(ctx, previous); !errors.Is(err, context.Canceled) {
		t.Errorf("a request whose ctx has ended: %v", err)
	}
}

func TestFirst(t *testing.T) {
	calls := ""
	fence := func(name string, err error) onfence.Func {
		return func(context.Context, ha.Previous) error { calls += name; return err }
	}
	one, two := errors.New("one"), errors.New("two")
	if err := onfence.First(fence("1", one), fence("2", nil), fence("3", nil))(t.Context(), previous); err != nil || calls != "12" {
		t.Errorf("calls %s: %v", calls, err)
	}
	if err := onfence.First(fence("1", one), fence("2", two))(t.Context(), previous); !errors.Is(err, one) || !errors.Is(err, two) {
		t.Errorf("all fail: %v", err)
	}
	if err := onfence.First()(t.Context(), previous); err == nil {
		t.Error("no fence at all has fenced")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	calls = ""
	if err := onfence.First(fence("1", one), fence("2", nil))(ctx, previous); err == nil || calls != "1" {
		t.Errorf("ctx has ended: calls %s: %v", calls, err)
	}
}
