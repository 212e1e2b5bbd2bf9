// A Node service as its team would write it: get-jwks fetches the keys, fast-jwt verifies.
// It prints the address it listens on and answers GET / with the subject of the
// caller's token, or 401 and the reason.
//
//   SERVICE_ISSUER    the token server
//   SERVICE_AUDIENCE  the name of this API there
//   SERVICE_ALG       the one algorithm it accepts
//   SERVICE_LIFESPAN  seconds that a key is cached; unset: get-jwks' own 60
//   SERVICE_BARE      nothing is demanded that the library does not demand by itself
import { createPublicKey } from "node:crypto";
import { createServer } from "node:http";
import { createVerifier } from "fast-jwt";
import buildGetJwks from "get-jwks";

const { SERVICE_ISSUER: issuer, SERVICE_AUDIENCE: audience, SERVICE_ALG: alg, SERVICE_LIFESPAN: lifespan, SERVICE_BARE: bare } = process.env;

const demands = {
  allowedIss: issuer,
  allowedAud: audience,
  // A claim that is not there is checked only if it is required.
  requiredClaims: ["iss", "aud", "exp", "sub"],
  checkTyp: "at+jwt",
};

const keys = buildGetJwks({
  issuersWhitelist: [issuer],
  ...(lifespan ? { ttl: Number(lifespan) * 1000 } : {}),
});
// A key that has left the set is "an error", for which get-jwks falls back on the key that it
// had, and keeps that one anew each time: a revoked key lived for as long as it was used.
keys.staleCache.set = () => keys.staleCache;

const verify = createVerifier({
  // The domain is ours, never the token's iss: whoever writes a token would choose what we fetch.
  key: async ({ header }) => {
    const jwk = await keys.getJwk({ domain: issuer, alg, kid: header.kid });
    // Not get-jwks' own getPublicKey, which knows no OKP.
    return createPublicKey({ key: jwk, format: "jwk" }).export({ type: "spki", format: "pem" });
  },
  algorithms: [alg],
  ...(bare ? {} : demands),
});

const server = createServer(async (request, response) => {
  const token = (request.headers.authorization ?? "").replace(/^Bearer /, "");
  try {
    const payload = await verify(token);
    response.writeHead(200, { "Content-Type": "application/json" });
    response.end(JSON.stringify({ sub: payload.sub }));
  } catch (error) {
    response.writeHead(401, { "Content-Type": "application/json" });
    response.end(JSON.stringify({ error: `${error.code}: ${error.message}` }));
  }
});

server.listen(0, "127.0.0.1", () => {
  console.log(`http://127.0.0.1:${server.address().port}/`);
});
