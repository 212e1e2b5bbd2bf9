// Package verifiers tests that verifiers accept this server's tokens and refuse other tokens.
// Most of these verifiers are from other projects:
//
//	django/  djangorestframework-simplejwt, as Debian packages it
//	python/  PyJWT, Authlib and python-jose, as Debian packages them
//	node/    jose, express-oauth2-jwt-bearer, fast-jwt and @fastify/jwt
//	ruby/    ruby-jwt with the program of docs/verify/ruby-jwt.md, as Debian packages it
//	perl/    Crypt::JWT with the program of docs/verify/crypt-jwt.md, as Debian packages it
//	php/     the program of docs/verify/php.md with extensions of Debian's PHP
//	java/    jose4j with the service of docs/verify/jose4j.md, as Debian 13 packages it
//	apache/  mod_auth_openidc as an OAuth resource server, as Debian packages it
//	haproxy/ HAProxy with the files of docs/verify/haproxy.md, as Debian packages it
//	oauth2-proxy/ oauth2-proxy with the files of docs/verify/oauth2-proxy.md, a Go module of its own
//	vault/   Vault's auth method jwt with the commands of docs/verify/vault.md and without the server of Vault, a Go module of its own
//	kubernetes/ the authenticator of the Kubernetes API server with the file of docs/verify/kubernetes.md, a Go module of its own
//	rabbitmq/ the OAuth 2 plugin of RabbitMQ without the broker, as Debian packages it
//	(here)   Dovecot with the blocks of docs/verify/dovecot.md, as Debian packages it,
//	         coreos/go-oidc, MicahParks/keyfunc and lestrrat-go/jwx,
//	         and this project's own jwks and jwks/grpc
//
// Each runs as a small HTTP service, with the settings of docs/verify and the library's own
// caches, so that the same tests run for all:
//
//	TestTheMatrix              a token with one fault is refused; new keys are found and
//	                           revoked keys are dropped
//	TestTheSettingsAreNeeded   what is accepted without the settings
//	TestAMissingAlgorithm…     a library refuses the algorithms that it does not support
//	TestRotationNeverFails…    under load, with caches as old as max-age allows
//	TestARevokedKeyIsRefused…  with such caches, when cached_until has passed
//	TestThePagesFetchSeldom…   for invented kids; and without the issuer no token passes after max-age
//	TestWhatSeesARevocation    with the library's own caches: after a revocation alone, and after a flush
//
// No other library passes all of the matrix. Each case that a library fails is listed beside it
// as a gap. A gap that is listed and does not exist fails the test, as an unlisted one does. So
// what docs/verify says about a library is measured again with each of its versions.
//
// scripts/install-deps installs what the services need.
package verifiers
