// Package state keeps the state of a program that an agent runs, replicated through the log of the agents: records that the program writes, and
// the files of a directory.
//
// The truth is the log and its checkpoints. Every member's [Machine] holds the state in memory, and everything else is made of it: a [Pipe] tells
// the records to a program that begins, and [Files] makes the directory what was committed last. So nothing here has to survive a crash by itself,
// and a directory that was damaged, or written to by an Active that was deposed, is put right before it is used again.
//
// What an Active writes is a record, or a commit in one or more records of which nothing counts before the last. The first of them drops what an earlier
// Active has left without a last; and the log refuses what a deposed Active writes (G2), so pieces of two commits never meet.
package state
