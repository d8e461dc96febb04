// Package httpfence carries fencing tokens over HTTP: a [Transport] adds the Active's token to each
// request, and a [Handler] stands before a service and lets only the newest one through.
//
//	client := &http.Client{Transport: &httpfence.Transport{Token: token}}      // the Active
//	server := &httpfence.Handler{Guard: guard, Next: mux}                      // who is asked
//
// The token travels in the field "Fencing-Token", in its text form. A refused request is answered with
// 412 (Precondition Failed) and a problem of RFC 9457, from which [Check] makes the *fence.StaleError
// again on the client's side; a request without a token with 428 (Precondition Required, RFC 6585).
//
// # What holds
//
// What the [fence.Guard] promises: a request of an older token is not passed on once a newer one has been
// here, also after the server was restarted, if the Guard's Store is durable; and the handlers of two
// epochs do not run at the same time. A handler that still runs for an older token when a newer one comes
// sees its request's context end and its body break off with the *fence.StaleError, however long the body
// is and however slowly it comes. The newer one waits until it has returned.
//
// # What does not
//
// What the handler has sent on to others is out of the Guard's hands: give them the token. Several servers
// before one resource need one Store that they share, and even then only the token's order is kept, not
// the waiting (see [fence.Guard]): put the fence where the resource is. The token is no secret and no proof
// of who asks: whoever can reach the server can write one.
package httpfence
