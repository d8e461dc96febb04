// Package benchmarks measures baton and its peers with one driver: three members in one process, real TCP on
// loopback, real fsync, writers in a closed loop on the leader. It is a module of its own, so that the peers never
// enter the go.sum of baton's users. The README says how to run it, what is measured, and what the figures mean.
package benchmarks
