// A token server of the npm package oidc-provider, set up as its documentation says: records in memory, and access tokens
// that are JWTs, signed with RS256. The group rs256 of the benchmark loads it beside Keymill.
//
//	node server.mjs PORT CLIENT SECRET RESOURCE SCOPE
import { generateKeyPairSync } from 'node:crypto'
import { Provider } from 'oidc-provider'

const [port, id, secret, resource, scope] = process.argv.slice(2)
const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
const seconds = 900

const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [{
    client_id: id, client_secret: secret, token_endpoint_auth_method: 'client_secret_post',
    grant_types: ['client_credentials'], redirect_uris: [], response_types: [], scope,
  }],
  scopes: [scope],
  ttl: { ClientCredentials: seconds },
  cookies: { keys: [secret] },
  jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), alg: 'RS256', use: 'sig', kid: 'k'.repeat(43) }] },
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    resourceIndicators: { // without a resource an access token is opaque
      enabled: true,
      getResourceServerInfo: () => ({
        audience: resource, scope, accessTokenFormat: 'jwt', accessTokenTTL: seconds, jwt: { sign: { alg: 'RS256' } },
      }),
    },
  },
})
const server = provider.listen(Number(port), '127.0.0.1')
server.keepAliveTimeout = 120_000 // the connections rest while the other servers are loaded
