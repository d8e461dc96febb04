package namenode

import (
	"context"
	"net/http"
	"time"

	"github.com/baton-ha/baton/examples/namenode/internal/dfs"
	"github.com/baton-ha/baton/fence/httpfence"
	"github.com/baton-ha/baton/ha"
)

// A Late is what POST /late answers: what has become of each deed. "" means that it was done.
type Late struct {
	Token string // whose deeds they are
	Log   string // to change the namespace
	Read  string // to answer a client
	Order string // to have a DataNode delete a replica
}

// Deeds are what POST /late is asked to do.
type Deeds struct {
	Path  string    // to remove
	Addr  string    // of a DataNode that shall delete
	Block dfs.Block // its replica of this
}

// late does what any goroutine of a process may do that was stopped between a decision and the deed. It decides now, with the Active's
// token, to remove a file, to tell a client what there is, and to have a DataNode delete a replica. And
// it does all of it as soon as this member is not the Active any more: it does not look at its context, as somebody does not who has just looked.
func (s *Server) late(w http.ResponseWriter, r *http.Request, node *ha.Node) {
	_, token, err := node.Tenure()
	var d Deeds
	if err == nil {
		err = readJSON(w, r, &d)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	w.WriteHeader(http.StatusOK)
	http.NewResponseController(w).Flush()                      // the decision is made
	for node.Check(token) == nil && r.Context().Err() == nil { // the request's, which says nothing of the role
		time.Sleep(time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	said := func(err error) string {
		if err != nil {
			return err.Error()
		}
		return ""
	}
	out := Late{Token: token.String()}
	_, err = s.edit(ctx, node, token, &dfs.Request{Op: dfs.Remove, Path: d.Path})
	out.Log = said(err)
	s.list(node, &dfs.Request{Op: dfs.List, Path: "/"})
	out.Read = said(node.Check(token))
	active := &http.Client{Transport: &httpfence.Transport{Token: token}}
	out.Order = said(command(ctx, active, dfs.Node{Addr: d.Addr}, "/delete",
		dfs.Delete{Number: 1 << 40, Blocks: []dfs.Block{d.Block}}, nil))
	reply(w, out)
}
