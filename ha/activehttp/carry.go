package activehttp

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
)

// carrier carries requests to the Active.
type carrier struct {
	once  sync.Once
	proxy httputil.ReverseProxy
}

type targetKey struct{}

// carry carries a request to the member at target, and the answer back.
func (h *Handler) carry(w http.ResponseWriter, r *http.Request, target *url.URL) {
	c := &h.carrier
	c.once.Do(func() {
		name := h.Node.Status().Name
		c.proxy = httputil.ReverseProxy{
			Transport:     h.Transport,
			FlushInterval: -1, // what is streamed is passed on at once
			ErrorHandler:  h.lost,
			Rewrite: func(p *httputil.ProxyRequest) {
				p.SetURL(p.In.Context().Value(targetKey{}).(*url.URL))
				p.Out.Host = p.In.Host
				p.Out.Header["X-Forwarded-For"] = p.In.Header["X-Forwarded-For"]
				p.SetXForwarded()
				p.Out.Header.Add(Via, name)
			},
		}
		if c.proxy.Transport == nil {
			t := http.DefaultTransport.(*http.Transport).Clone()
			t.Proxy = nil
			c.proxy.Transport = t
		}
	})
	c.proxy.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), targetKey{}, target)))
}

// lost answers a request that could not be carried to its end.
func (h *Handler) lost(w http.ResponseWriter, r *http.Request, err error) {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		h.unavailable(w, "the active member cannot be reached") // it never got there
		return
	}
	if r.Context().Err() == nil {
		h.logger().Warn("a request was carried to the active, and its answer did not come", "err", err)
	}
	w.Header().Set("Cache-Control", "no-store")
	http.Error(w, "the active member has not answered: whether the request has taken effect is not known", http.StatusBadGateway)
}
