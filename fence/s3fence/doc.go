// Package s3fence fences objects in S3 and in stores that speak its protocol and do conditional writes: an [Object] is
// replaced only by a token that nobody's supersedes. It uses the AWS SDK for Go, version 2, and is a module of its own, so that
// the SDK does not enter everybody's go.sum.
//
//	o, err := s3fence.New(s3.NewFromConfig(cfg), "bucket", "jobs/state")
//	v, err := o.Put(ctx, token, bytes.NewReader(state))   // the Active
//	r, err := o.Get(ctx)                                  // anybody
//
// # How it works
//
// The token is in the object's metadata. Put looks at it (HEAD), is refused if it supersedes its own, and writes with the
// condition that the object is still what it has seen: If-Match with its ETag, or If-None-Match with "*" if there was none. Who
// sleeps in between finds another ETag when he wakes, and must look again.
//
// An ETag is made from the content alone, by MD5 or a checksum. So if a newer Active wrote back what was there before,
// the old ETag would fit again, and a late writer's condition with it. Therefore each version ends with 32 bytes of its
// own, a random id, behind the content; [Object.Get] leaves them out, and whoever reads the object by other means finds its size without them
// in the metadata (x-amz-meta-fencing-size) and reads so much.
//
// # What holds
//
//   - Tokens never go back from version to version, from however many processes.
//   - After Put or Raise has returned nil for a token, no object of an older one takes its place. A new Active that calls
//     Raise first and reads then reads what stays.
//   - An object is replaced as a whole or not at all.
//
// # Conditions
//
//   - The store evaluates If-Match and If-None-Match of PutObject in one step with the write, and reads show the last write. S3 does
//     since November 2024 (general purpose buckets), MinIO and versitygw do. HEAD need not be one step: it is asked twice; some others ignore the conditions without an error: [Object.Probe] tells.
//     Content and metadata change together (with versitygw: metadata in extended attributes, not in a directory of its own).
//   - Everybody who writes the object uses this package: a plain PutObject or DeleteObject asks for no token, nor does a lifecycle
//     rule or a replication from another bucket. A bucket policy can demand conditional writes (s3:if-match).
//   - It is one object. Several that must change together need another one that names them, written last.
//   - An object is at most 5 GiB (one PutObject).
package s3fence
