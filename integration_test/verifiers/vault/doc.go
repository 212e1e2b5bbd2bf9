// Package vault is the module of Vault's auth method for tokens, so that its requirements stay apart from those of the other tests.
// Its go.mod names the versions that they build and run. The program is below testdata, where ./... does not find it: vet and
// staticcheck would read hundreds of packages for it.
package vault
