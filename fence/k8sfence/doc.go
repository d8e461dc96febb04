// Package k8sfence fences objects of Kubernetes' API: an [Object] is changed only by a token that nobody's supersedes, so that a controller that was
// replaced, and does not know it yet, changes nothing any more. It works with every kind of object that has metadata, through client-go's
// dynamic client, and is a module of its own, so that client-go does not enter everybody's go.sum.
//
//	o, err := k8sfence.New(client.Resource(deployments).Namespace("shop"), "web")
//	_, err = o.Update(ctx, token, func(u *unstructured.Unstructured) error { … })   // the Active
//
// # How it works
//
// The token is in an annotation ([Annotation]). Update reads the object, is refused if the token there supersedes its own, and writes it with its own token and the
// resourceVersion that it has read: the API server refuses with a conflict whatever was changed since, in one step with the write, by etcd's
// transaction. Who sleeps in between finds the conflict when he wakes, and must look again. It is the optimistic concurrency of Kubernetes, with
// the token under it.
//
// # What holds
//
//   - Tokens never go back from version to version, from however many processes.
//   - After Update, Create or Raise has returned nil for a token, no change of an older one takes effect. A new Active that calls Raise first, and
//     then reads, reads what stays.
//
// # Conditions
//
//   - Everybody who acts for the cluster's Active uses this package: a patch or an update without a resourceVersion asks for no token. Others (users, Kubernetes'
//     own controllers) may change the object as they do, if they leave the annotation there; a change of theirs is a conflict, which is tried again.
//   - Who deletes the object deletes its token. A late Create of an older one succeeds then: use another name, or keep the object and empty it.
//   - It is one object. What others derive from it follows later, as everything in Kubernetes.
package k8sfence
