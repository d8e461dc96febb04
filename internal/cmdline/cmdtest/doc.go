// Package cmdtest tests the command line of baton as a person or a script uses it: through pipes and through a terminal, against real
// clusters. It is a module of its own, so that what it needs is not needed by those who build baton; and it makes the manual page.
package cmdtest

//go:generate go test -run ^TestManual$ -manual
