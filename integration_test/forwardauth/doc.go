// Package forwardauth runs the recipes of docs/verify for proxies that ask Keymill about each request, with the real
// programs:
//
//	client ──▶ nginx or Caddy ──▶ Keymill, verify.listen on a Unix socket
//	               └────────────▶ a service that records the headers it gets
//
// The configurations are the blocks of the pages, with other addresses. scripts/install-deps installs both programs.
package forwardauth
