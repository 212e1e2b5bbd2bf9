// Package forwardauth runs the recipes of docs/verify for proxies that ask Keymill about each request, with the real
// programs:
//
//	client ──▶ nginx, Caddy or Traefik ──▶ Keymill, verify.listen on a Unix socket or on loopback
//	               └─────────────────────▶ a service that records the headers it gets
//
// The configurations are the blocks of the pages, with other addresses. scripts/install-deps installs nginx and Caddy.
// Traefik is built from its module: testdata/traefik has a small main, and replaces the files that import all of its providers.
package forwardauth
