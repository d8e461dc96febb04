package transport

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	problemCertificate = "certificate"

	expiryLook = time.Hour
	renewLook  = time.Minute            // after which the program is asked for new certificates, though nobody shakes hands
	renewPause = 200 * time.Millisecond // between two looks at all sessions
)

// watchCertificates tells of certificates that expire or are refused, and judges what stands by new ones. Once an hour it shakes
// hands with all peers, since connections last, and what the program and the peers show may be new by then.
func (t *TCP) watchCertificates(ctx context.Context) {
	tick := time.NewTicker(renewLook)
	defer tick.Stop()
	told, probed := map[string]string{}, time.Now()
	for {
		t.tellCertificates(told)
		select {
		case <-t.end.CertificatesChanged():
			t.end.JudgeStanding(ctx)
			wait(ctx, nil, renewPause) // in which what is mended for one direction is for the other, too
		case <-tick.C:
			if t.end.Secure() && time.Since(probed) > expiryLook {
				probed = time.Now()
				t.showAll(ctx)
			}
			t.end.JudgeStanding(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// showAll shakes hands with all peers at once.
func (t *TCP) showAll(ctx context.Context) {
	var wg sync.WaitGroup
	for _, p := range t.dir.Load().byID {
		wg.Go(func() {
			if l, err := t.end.Dial(p.small(ctx), p.Peer, PurposeProbe); err == nil {
				l.Close()
			}
		})
	}
	wg.Wait()
}

func (t *TCP) tellCertificates(told map[string]string) {
	all := t.end.CertificateProblems()
	for name := range t.dir.Load().byName {
		t.tellCertificate(name, all[name], told)
	}
	t.tellCertificate("", all[""], told)
	for name := range told {
		if _, known := t.known(name); name != "" && !known {
			t.tellCertificate(name, nil, told)
		}
	}
}

// toldOf reports whether the program is told of what a connection to or from a peer has failed of, as a problem with a certificate, which the log then has.
func (t *TCP) toldOf(err error) bool { return t.cfg.Problem != nil && errors.Is(err, ErrUnauthorized) }

// tellCertificate tells what is new.
func (t *TCP) tellCertificate(name string, err error, told map[string]string) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if told[name] == text {
		return
	}
	told[name] = text
	t.end.Problem(name, problemCertificate, err)
}
