// Package fencetest tests the fences with real servers and real processes. It is a module of its own, so
// that the drivers do not enter the go.sum of baton's users. Tests whose server is missing are skipped and
// say how to start it: see servers.sh.
package fencetest
