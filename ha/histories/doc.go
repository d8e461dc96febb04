// Package histories lets real processes call and read while they are killed and stopped, and has porcupine judge what they
// saw: whether there is an order of all calls, each at one moment between its beginning and its end, that explains every answer. It
// is a module of its own, so that the judge does not enter the go.sum of baton's users.
//
//	go test -C ha/histories -runs 100 -timeout 1h
package histories
