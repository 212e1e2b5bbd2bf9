// Package oauth2proxy is the module of oauth2-proxy, so that its requirements stay apart from those of the other tests. Its
// go.mod names the version that they build and run.
package oauth2proxy
