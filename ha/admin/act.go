package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/baton-ha/baton/ha"
)

// This file changes things, for those who may.

// An action is what a POST asks for. Its error is the reason why not.
type action func(ctx context.Context, n Node, form url.Values) error

// actions are what can be asked for, by path.
var actions = map[string]action{
	"handover": func(ctx context.Context, n Node, form url.Values) error {
		s, member := n.Status(), whose(n, form)
		switch {
		case member == s.Name && s.State != ha.Active:
			return badRequest("%s is %v: it has no role to hand over", s.Name, s.State)
		case member != s.Name && s.Active != member:
			return badRequest("%s is not Active: it has no role to hand over", member)
		}
		return n.BecomeOf(ctx, member, ha.Standby)
	},
	"become": func(ctx context.Context, n Node, form url.Values) error {
		return n.BecomeOf(ctx, whose(n, form), ha.Active)
	},
	"stay-away": func(ctx context.Context, n Node, form url.Values) error {
		return n.StayAwayOf(ctx, whose(n, form), form.Get("reason"))
	},
	"come-back": func(ctx context.Context, n Node, form url.Values) error { return n.ComeBackOf(ctx, whose(n, form)) },
	"add": func(ctx context.Context, n Node, form url.Values) error {
		m := ha.Member{Name: form.Get("member"), Addr: form.Get("addr"), Advertise: form.Get("advertise")}
		switch kind := form.Get("kind"); kind {
		case "", ha.KindVoter.String():
			m.Kind = ha.KindVoter
		case ha.KindObserver.String():
			m.Kind = ha.KindObserver
		case ha.KindArbiter.String():
			m.Kind = ha.KindArbiter
		default:
			return badRequest("kind %q is none of %v, %v, %v", kind, ha.KindVoter, ha.KindObserver, ha.KindArbiter)
		}
		if form.Get("priority") != "" {
			var err error
			if m.Priority, err = number(form, "priority"); err != nil {
				return err
			}
		}
		return n.AddMember(ctx, m)
	},
	"remove": func(ctx context.Context, n Node, form url.Values) error {
		if form.Get("confirm") != form.Get("member") {
			return badRequest("to remove a member, which is for good, give its name in the field confirm, too")
		}
		return n.RemoveMember(ctx, form.Get("member"))
	},
	"replace": func(ctx context.Context, n Node, form url.Values) error {
		return n.ReplaceMember(ctx, form.Get("member"))
	},
	"promote": func(ctx context.Context, n Node, form url.Values) error { return n.Promote(ctx, form.Get("member")) },
	"demote":  func(ctx context.Context, n Node, form url.Values) error { return n.Demote(ctx, form.Get("member")) },
	"priority": func(ctx context.Context, n Node, form url.Values) error {
		p, err := number(form, "priority")
		if err != nil {
			return err
		}
		return n.SetPriority(ctx, form.Get("member"), p)
	},
}

// whose is the member that something is wanted of: the one that is asked, if none is named.
func whose(n Node, form url.Values) string { return cmp.Or(form.Get("member"), n.Status().Name) }

// needsMember are the actions that are about a member by name.
var needsMember = map[string]bool{"add": true, "remove": true, "replace": true, "promote": true, "demote": true, "priority": true}

func number(form url.Values, name string) (int, error) {
	n, err := strconv.Atoi(form.Get(name))
	if err != nil {
		return 0, badRequest("%s is not a number", name)
	}
	return n, nil
}

// A requestError is of a request that makes no sense.
type requestError struct{ text string }

func (e *requestError) Error() string { return e.text }

func badRequest(format string, args ...any) error { return &requestError{fmt.Sprintf(format, args...)} }

// act serves one action. What was begun is not given up when the one who asked goes away.
func (h *Handler) act(name string, do action) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := h.guard.Check(r); err != nil {
			h.answer(w, r, http.StatusForbidden, err)
			return
		}
		if err := h.authorized(r); err != nil {
			h.log.Warn("a change was refused", "change", name, "remote", r.RemoteAddr, "err", err)
			h.answer(w, r, http.StatusForbidden, err)
			return
		}
		if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); r.ContentLength != 0 && (err != nil || t != "application/x-www-form-urlencoded") {
			h.answer(w, r, http.StatusUnsupportedMediaType, errors.New("the fields are to come as application/x-www-form-urlencoded"))
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		if err := r.ParseForm(); err != nil {
			h.answer(w, r, http.StatusBadRequest, err)
			return
		}
		if needsMember[name] && r.PostForm.Get("member") == "" {
			h.answer(w, r, http.StatusBadRequest, errors.New("the field member is missing"))
			return
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), actTime)
		defer cancel()
		err := do(ctx, h.node, r.PostForm)
		h.log.Info("a change was asked for", "change", name, "fields", r.PostForm.Encode(), "remote", r.RemoteAddr, "err", err)
		h.answer(w, r, codeOf(err), err)
	}
}

// authorized asks the program. One that panics has refused.
func (h *Handler) authorized(r *http.Request) (err error) {
	if h.cfg.Authorize == nil {
		return errors.New("this program lets nobody change anything here (Config.Authorize)")
	}
	defer func() {
		if p := recover(); p != nil {
			err = errors.New("Config.Authorize panicked")
			h.log.Error("admin: Config.Authorize panicked", "panic", p)
		}
	}()
	return h.cfg.Authorize(r)
}

// codeOf says how an action has ended.
func codeOf(err error) int {
	var bad *requestError
	switch {
	case err == nil:
		return http.StatusOK
	case errors.As(err, &bad):
		return http.StatusBadRequest
	case errors.Is(err, ha.ErrUnknown), errors.Is(err, context.DeadlineExceeded):
		return http.StatusGatewayTimeout // it may be done yet
	case errors.Is(err, ha.ErrClosed), errors.Is(err, ha.ErrNoLeader), errors.Is(err, ha.ErrNotReached):
		return http.StatusServiceUnavailable
	}
	return http.StatusConflict
}

// answer tells a program in JSON, and sends a person back to the page or shows why not.
func (h *Handler) answer(w http.ResponseWriter, r *http.Request, code int, err error) {
	html := strings.Contains(r.Header.Get("Accept"), "text/html")
	switch {
	case html && err == nil:
		w.Header().Set("Location", "./")
		w.WriteHeader(http.StatusSeeOther)
	case html:
		h.serveRefusal(w, code, err)
	case err == nil:
		reply(w, code, struct {
			OK bool `json:"ok"`
		}{true})
	default:
		reply(w, code, failure{err.Error()})
	}
}
