// Package k8stest tests package k8sfence with a real API server of Kubernetes, that for custom resources (k8s.io/apiextensions-apiserver), on a real etcd, both in the test's
// process. It is a module of its own, so that they do not enter the go.sum of k8sfence's users. To build it for the first time takes three minutes on two
// processors.
package k8stest
