package admin

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/baton-ha/baton/ha"
)

// This file answers load balancers and orchestrators: 200 for yes, 503 for no, as Patroni's REST API does, whatever the method. Vault has
// codes of its own for each state; who wants those has the state in the body.

// verdict is the body of an answer.
type verdict struct {
	OK     bool   `json:"ok"`
	Member string `json:"member"`
	State  string `json:"state"`
	Epoch  uint64 `json:"epoch"`
	Active string `json:"active"`
	// Reason is why not, "" if it is so.
	Reason string `json:"reason,omitempty"`
}

// checks are the questions, by path. Each returns why not, "" if it is so.
var checks = map[string]func(s ha.Status, q url.Values) string{
	"healthz": func(s ha.Status, _ url.Values) string { return notAlive(s) },
	"readyz":  notReady,
	"active": func(s ha.Status, _ url.Values) string {
		if s.State != ha.Active {
			return "it is " + s.State.String()
		}
		return ""
	},
	"standby": func(s ha.Status, q url.Values) string {
		if s.State != ha.Standby && s.State != ha.Observer {
			return "it is " + s.State.String()
		}
		return notReady(s, q)
	},
}

// notAlive says why a process had better be started anew: what a restart does not mend, as a majority that is missing, is none of it.
func notAlive(s ha.Status) string {
	if s.State == ha.Failed {
		if s.Err != nil {
			return "it has failed: " + s.Err.Error()
		}
		return "it is closed"
	}
	for _, o := range s.Obstacles {
		if o.Kind == ha.ObstacleLoop {
			return o.String()
		}
	}
	return ""
}

// unready are the obstacles of a member that cannot do its part. The others say only that the role had better be elsewhere.
var unready = map[ha.ObstacleKind]bool{
	ha.ObstacleUnborn: true, ha.ObstacleSick: true, ha.ObstacleDiskStalled: true, ha.ObstacleApplyStalled: true, ha.ObstacleLagging: true, ha.ObstacleLoop: true,
	ha.ObstacleJoining: true,
}

// notReady says why a member cannot do its part now.
func notReady(s ha.Status, q url.Values) string {
	switch s.State {
	case ha.Failed:
		return notAlive(s)
	case ha.Electing, ha.Joining:
		return "it is " + s.State.String()
	}
	if s.Leader == "" {
		return "no leader is known"
	}
	for _, o := range s.Obstacles {
		if unready[o.Kind] {
			return o.String()
		}
	}
	return tooFarBehind(s, q.Get("lag"))
}

// tooFarBehind compares the lag with what is allowed, a number of records or a time.
func tooFarBehind(s ha.Status, allowed string) string {
	if allowed == "" || s.State == ha.Active {
		return ""
	}
	if records, err := strconv.ParseUint(allowed, 10, 64); err == nil {
		if s.Lag.Records > records {
			return fmt.Sprintf("it is %d records behind", s.Lag.Records)
		}
		return ""
	}
	if d, err := time.ParseDuration(allowed); err == nil && d >= 0 {
		if s.Lag.Time > d {
			return fmt.Sprintf("it may be %v behind", s.Lag.Time.Round(time.Millisecond))
		}
		return ""
	}
	return fmt.Sprintf("lag=%s is neither a number of records nor a time such as 500ms", allowed)
}

func (h *Handler) check(judge func(ha.Status, url.Values) string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s := h.node.Status()
		why := judge(s, r.URL.Query())
		code := http.StatusOK
		if why != "" {
			code = http.StatusServiceUnavailable
		}
		reply(w, code, verdict{why == "", s.Name, s.State.String(), s.Epoch, s.Active, why})
	}
}
