// Package filefence fences files on a shared file system: NFS, a cluster file system, or a local disk that several
// processes write. A [File] is replaced as a whole, a [Journal] grows by records; both carry the token, and
// refuse an older one.
//
//	f, err := filefence.NewFile("/mnt/shared/jobs/state")
//	v, err := f.Replace(ctx, token, bytes.NewReader(state))   // the Active
//	r, err := f.Open(ctx)                                     // anybody
//
// # How it works
//
// A file system does not look at tokens. All that it has for us is one call that is atomic and exclusive
// everywhere, also on NFS since version 2: link(2), which gives a file a name unless the name is taken. (flock is of
// the host on many file systems, and ends with the lease of a client that was cut off; rename replaces what has come
// meanwhile.) So a fenced file is a directory of numbered versions. Who writes one
//
//  1. finds the newest version, N, and is refused if its token supersedes his own;
//  2. writes his own version under a name of its own ("new-…"), with N's id in it, and syncs it;
//  3. links it as N+1. If the name is taken, somebody was faster: he begins again at 1, where he may be refused.
//
// Whoever sleeps between 1 and 3 while another one writes finds N+1 taken when he wakes. So the versions' tokens
// never go back, and from the moment in which the first version of a token is there no version of an older one is added.
//
// Old versions are removed, oldest first, and a late link can find a free name among them. It adds nothing then: the
// newest version is the one with the highest number, each one names the id of the one before, and after his link
// the writer makes sure that N is still there, without which N+1 could have been removed.
//
// # What holds
//
//   - Tokens never go back from version to version, from however many hosts and processes.
//   - After Raise, Replace or Append has returned nil for a token, no version of an older token is added. A new
//     Active that calls Raise first and reads then reads what stays.
//   - A version is there as a whole or not at all; a reader gets one version, and notices damage.
//   - What was answered by nil survives a crash of the writer, and of the file server if it keeps its promises.
//
// # What a file system cannot promise
//
//   - It refuses nobody who writes there in another way. Give the directory to those who use this package.
//   - A reader is not fenced: it can have read the version before, just in time. On NFS its view may be as old as
//     the client's cache of names (acdirmax, a minute by default; mount with lookupcache=none or noac where that is too long).
//     Writers are not misled by the cache: link asks the server.
//   - Opening a file must ask the server whether it still exists ("close to open", the default of NFS; not with the
//     option nocto). A reader that is slow can lose its version to the removal of old ones (an error, ESTALE on NFS): [File]
//     keeps eight.
//   - A server that answers before data is on its disk (an NFS export with async) can forget the newest token in
//     a crash, and lets the older one in again.
//   - Without hard links (FAT, most FUSE mounts of object stores) nothing works: the first write fails.
//   - Files that must be changed in place, by mmap or by a program that knows nothing of this: give each epoch a directory of its own,
//     and tell the readers which one counts by a [File] that holds its name. What is late then writes where nobody looks.
//
// # Lock files
//
// Raise without a write is a lock file that carries its token: it holds from the newest token's Raise on, [File.Token] says who has
// it, and nothing must be cleaned up after a crash. Whoever can ask for the token at the resource itself should do that
// instead: between a look at a lock and the work there is always time to sleep. [File] and [Journal] are [fence.Store]s, so that a
// [fence.Guard] can keep its token on a shared file system.
package filefence
