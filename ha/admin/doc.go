// Package admin is the face of a member: an [http.Handler] with a status page of the whole cluster, JSON, and the answers that load
// balancers and orchestrators ask for.
//
//	h := admin.New(node, admin.Config{})
//	defer h.Close()
//	mux.Handle("/admin/", http.StripPrefix("/admin", h)) // or any other mux and place
//	server.RegisterOnShutdown(h.Close)                   // else Shutdown waits for whoever looks at the page
//
// The page is the same from every member, but for what only the asked member can know, and says so. It needs no JavaScript; with it,
// it changes by itself. What there is, with codes and fields, stands in docs/admin.md:
//
//	/            the page             /healthz   the process need not be restarted
//	/timeline    all that happened    /readyz    it can do its part
//	/status      JSON                 /active    it is the Active
//	/events      JSON                 /standby   it follows, and may be read from
//	/metrics     Config.Metrics
//
// Who can reach the handler can read all of that: the names and addresses of the members, and how they are; no records, no keys. To
// change something, by a POST to /handover and the like, takes [Config.Authorize], without which it is refused. It is refused, too, where a browser
// sends it for another site ([http.CrossOriginProtection]).
//
// All methods may be called by any goroutine at any time.
package admin
