// Package agent makes a program highly available that knows nothing of baton: of the members of a cluster it runs on the Active only, with
// the token in its environment. It is the inside of "baton agent".
//
// # Processes
//
//	agent ──▶ guardian ──▶ init ──▶ the program, and what it starts
//
// The agent is a member: it has the lease. When it becomes Active it starts a guardian, tells it until when the lease lasts, again and again, and
// hears from it what becomes of the program. The guardian does the work of the role, in this order: promote, the program, start, until the check
// succeeds; addresses; announce; and in the opposite order when the role ends. The init is the parent of everything that the program starts; with
// the rights for it (root) it is the first process of a PID namespace, so that the kernel leaves nothing behind when it dies.
//
// # Before another one starts
//
// What is guaranteed is that the program is dead before it is started elsewhere, as long as one process of the agent and the guardian runs, and the
// lease's conditions hold (G4):
//
//   - The agent dies, in whatever way: the guardian reads the end of its pipe, and kills the init at once.
//   - The agent hangs or is stopped, or its machine was asleep: no lease is told any more, and when the last one is over the guardian kills.
//   - The guardian dies: the init dies with it (Pdeathsig), and with the init all others. The agent sees the end of the guardian, takes the
//     addresses away, and gives up the role.
//   - Both die at once: as before, but nobody takes the addresses away. The next start of the agent does.
//   - Without a PID namespace, what a program has started elsewhere (setsid, double fork) is found by the guardian, but outlives a guardian that is killed.
//   - A whole machine that stands still (a paused virtual machine) runs the program for a moment when it goes on, until the guardian has seen the time. What
//     it writes then must be fenced: the program has the token (see package fence).
//
// Other members wait for the lease to end (NoCrashEvidence), also when the agent was killed: that a port refuses connections
// says that the agent is dead, and not yet that its program is.
package agent
