// What the two services with get-jwks have in common: where the keys come from, and what
// they demand of a token.
//
//   SERVICE_ISSUER    the token server
//   SERVICE_AUDIENCE  the name of this API there
//   SERVICE_ALG       the one algorithm it accepts
//   SERVICE_LIFESPAN  seconds that a key is cached; unset: get-jwks' own 60
//   SERVICE_BARE      nothing is demanded that the library does not demand by itself
import { createPublicKey } from "node:crypto";
import buildGetJwks from "get-jwks";

const { SERVICE_ISSUER: issuer, SERVICE_AUDIENCE: audience, SERVICE_ALG: alg, SERVICE_LIFESPAN: lifespan, SERVICE_BARE: bare } = process.env;

const demands = {
  allowedIss: issuer,
  allowedAud: audience,
  // A claim that is not there is checked only if it is required.
  requiredClaims: ["iss", "aud", "exp", "sub"],
  checkTyp: "at+jwt",
};

export const options = { algorithms: [alg], ...(bare ? {} : demands) };

const keys = buildGetJwks({
  issuersWhitelist: [issuer],
  ...(lifespan ? { ttl: Number(lifespan) * 1000 } : {}),
});
// A key that has left the set is "an error", for which get-jwks falls back on the key that it
// had, and keeps that one anew each time: a revoked key lived for as long as it was used.
keys.staleCache.set = () => keys.staleCache;

// The domain is ours, never the token's iss: whoever writes a token would choose what we fetch.
export async function publicKey(kid) {
  const jwk = await keys.getJwk({ domain: issuer, alg, kid });
  // Not get-jwks' own getPublicKey, which knows no OKP.
  return createPublicKey({ key: jwk, format: "jwk" }).export({ type: "spki", format: "pem" });
}
