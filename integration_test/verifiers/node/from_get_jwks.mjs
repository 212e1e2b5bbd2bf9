// What the two services with get-jwks share: the keys and the checks of a token.
//
//   SERVICE_ISSUER    the token server
//   SERVICE_AUDIENCE  the name of this API there
//   SERVICE_ALG       the one algorithm it accepts
//   SERVICE_LIFESPAN  seconds that a key is cached; unset: get-jwks' own 60
//   SERVICE_BARE      set: only the checks that the library does by default
import { createPublicKey } from "node:crypto";
import buildGetJwks from "get-jwks";

const { SERVICE_ISSUER: issuer, SERVICE_AUDIENCE: audience, SERVICE_ALG: alg, SERVICE_LIFESPAN: lifespan, SERVICE_BARE: bare } = process.env;

const checks = {
  allowedIss: issuer,
  allowedAud: audience,
  // A missing claim is an error only if the claim is required.
  requiredClaims: ["iss", "aud", "exp", "sub"],
  checkTyp: "at+jwt",
};

export const options = { algorithms: [alg], ...(bare ? {} : checks) };

const keys = buildGetJwks({
  issuersWhitelist: [issuer],
  ...(lifespan ? { ttl: Number(lifespan) * 1000 } : {}),
});
// When a key has left the set, get-jwks treats that as an error, uses the cached key and caches it
// for another period. Without the next line a revoked key would be accepted as long as it is used.
keys.staleCache.set = () => keys.staleCache;

// The domain is configured and not the token's iss. Otherwise the sender of a token would choose
// the URL that is fetched.
export async function publicKey(kid) {
  const jwk = await keys.getJwk({ domain: issuer, alg, kid });
  // Not get-jwks' own getPublicKey, which does not support OKP keys.
  return createPublicKey({ key: jwk, format: "jwk" }).export({ type: "spki", format: "pem" });
}
