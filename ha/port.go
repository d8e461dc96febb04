package ha

import "net"

// Others returns a listener for the program's own server on this member's port (Config.SharePort), nil if the port is the member's alone: it gets the connections
// that are neither a member's nor a client's, untouched, from their first byte on, so that a TLS server can be behind it.
//
//	go http.Serve(node.Others(), mux)
//
// A connection waits to be accepted for a few seconds, 64 of them at most, and is then closed, as one is that says nothing. The member's own connections
// keep their bounds. After Close of the node Accept fails with [net.ErrClosed]; what was accepted before goes on.
func (n *Node) Others() net.Listener { return n.net.Others() }
