// Package fence holds the fencing token of a baton cluster.
//
// A [Token] names a cluster, an epoch and the member that became Active in that epoch. The ha
// package hands one to OnActive; whatever the Active then does to the outside world should carry it,
// and whoever is asked should refuse a token that another one supersedes. A [Guard] is that side: it
// remembers the highest token in a [Store], durably and before the work is done, and lets nothing late
// through:
//
//	guard := fence.NewGuard("jobs", store)
//	err := guard.Do(ctx, token, func(ctx context.Context) error { … })
//
// The packages below this one are guards for what cannot run our code, or for the way there: sqlfence,
// redisfence, httpfence, grpcfence, filefence, s3fence, k8sfence. All of them follow [Check].
//
// The token is proof, a context is advice: a process that was stopped and woken again cannot see that
// its context has ended, but its token is old wherever a newer one has been.
//
// Tokens have a text form ("jobs/7/a", for headers, columns and logs) and a binary form. Both are
// stable. A Token is a value without hidden state; everything here is safe for concurrent use. The
// package imports nothing of baton and may be used by clients and workers alone.
package fence
