module github.com/baton-ha/baton/ha/histories

go 1.26.0

replace github.com/baton-ha/baton => ../..

require (
	github.com/anishathalye/porcupine v1.3.1
	github.com/baton-ha/baton v0.0.0
	golang.org/x/sys v0.49.0
)

require (
	github.com/hashicorp/go-msgpack/v2 v2.1.5 // indirect
	github.com/stretchr/testify v1.12.1 // indirect
	go.etcd.io/raft/v3 v3.7.0 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
)
