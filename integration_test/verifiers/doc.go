// Package verifiers asks verifiers, most of which this project did not write, whether
// they accept its tokens, and no others:
//
//	django/  djangorestframework-simplejwt, as Debian packages it
//	python/  PyJWT, Authlib and python-jose, as Debian packages them
//	node/    jose, express-oauth2-jwt-bearer, fast-jwt and @fastify/jwt
//	apache/  mod_auth_openidc as an OAuth resource server, as Debian packages it
//	(here)   coreos/go-oidc, MicahParks/keyfunc and lestrrat-go/jwx,
//	         and this project's own jwks and jwks/grpc
//
// Each of them runs as a small HTTP service, with the settings that docs/verify shows
// and the library's own caches, so that one table of promises holds for all:
//
//	TestTheMatrix              what differs from a good token in one thing is refused;
//	                           new keys are found, revoked ones given up
//	TestTheSettingsAreNeeded   what is accepted where the settings are left out
//	TestAMissingAlgorithm…     what a library is said to lack, it lacks
//	TestRotationNeverFails…    under load, with caches as old as max-age allows
//	TestARevokedKeyDies…       with such caches, as soon as the server says
//
// No other library keeps all of the matrix. What one does not keep is stated beside it as a
// gap, and a gap that is not there fails the test as an unstated one does: what the
// docs/verify says about a library is measured, and goes on being measured when the library
// has a new version.
//
// scripts/install-deps brings what the services need.
package verifiers
