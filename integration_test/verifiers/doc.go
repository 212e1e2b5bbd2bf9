// Package verifiers asks verifiers that this project did not write whether they
// accept its tokens, with the library's own defaults wherever a test does not have
// to wait minutes for a cache:
//
//	django/  djangorestframework-simplejwt 5.2.2 with PyJWT 2.6, as Debian packages
//	         them and with the system's Python; RS256, which is all it can do
//	node/    jose and its createRemoteJWKSet; EdDSA and RS256
//	(here)   coreos/go-oidc through the discovery document; EdDSA and RS256
//
// Each of them runs as a small HTTP service, so that one table of promises holds
// for all. What a service keeps in its cache decides how fast a revocation reaches
// it; the comments beside each one say what it does and what its team has to do.
//
// scripts/install-deps brings what the services need.
package verifiers
