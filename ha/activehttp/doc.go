// Package activehttp puts a program's own HTTP service in front of its members: whichever of them a request comes to, it is
// served by the Active.
//
//	node, err := ha.Open(ha.Config{..., Advertise: "http://10.0.0.1:8000"})
//	...
//	http.ListenAndServe(":8000", &activehttp.Handler{Node: node, Next: mux})
//
// On the Active [Handler] calls Next, with the token in the request's ctx ([Token]) and the field Fencing-Token, and a ctx that ends with the
// role. On any other member it sends the client to the Active (307), or carries the request there and the answer back (Carry), WebSockets
// and streams too. Where there is no Active it says 503, with Retry-After.
//
// # What it does not do
//
// It does not make a request be served once: an answer that is lost leaves open what has happened, as everywhere in HTTP. And that a
// request was served by the Active does not mean that this member was still Active at its end: what it has done must go
// through [ha.Node.Append] with the token, or to a resource that checks tokens. An answer names the token under which it was
// made, so that whoever gets two can tell which is newer.
package activehttp
