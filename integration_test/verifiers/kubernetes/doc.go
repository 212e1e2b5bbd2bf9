// Package kubernetes is the module of the Kubernetes API server's authenticator, so that its requirements stay apart from those of the
// other tests. Its go.mod names the version that they build and run. The program is below testdata, where ./... does not find it: vet
// and staticcheck would read hundreds of packages for it.
package kubernetes
