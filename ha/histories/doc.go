// Package histories lets real processes call and read while they are killed, stopped, cut off, added and removed, and their sessions
// expire, and has porcupine judge what they saw: whether there is an order of all calls, each at one moment between its beginning and its end, that explains every answer. It
// is a module of its own, so that the judge does not enter the go.sum of baton's users.
//
//	go -C ha/histories test -v -runs 100 -timeout 1h           # kill -9, SIGSTOP, changes of the members, sessions that expire
//	go -C ha/histories test -v -runs 100 -cuts -timeout 1h     # each process on a host of its own that is cut off, too; needs root, ip and nft
package histories
