// A typical Node service: jose fetches the key set and verifies.
// It prints the address it listens on and answers GET / with the subject of the
// caller's token, or 401 and the reason.
//
//   SERVICE_ISSUER    the token server
//   SERVICE_AUDIENCE  the name of this API there
//   SERVICE_ALG       the one algorithm it accepts
//   SERVICE_LIFESPAN  seconds that the key set is cached; unset: jose's own 600
//   SERVICE_BARE      set: only the checks that the library does by default
//
// cooldownDuration stays at jose's 30 s. Within it an unknown kid fetches nothing, so this service
// refuses valid tokens if a key signs before every cache has it.
import { createServer } from "node:http";
import { createRemoteJWKSet, jwtVerify } from "jose";

const { SERVICE_ISSUER: issuer, SERVICE_AUDIENCE: audience, SERVICE_ALG: alg, SERVICE_LIFESPAN: lifespan, SERVICE_BARE: bare } = process.env;

const checks = {
  issuer,
  audience,
  typ: "at+jwt",
  requiredClaims: ["exp", "sub"], // iss and aud are required where they are checked, exp is not
};

const keys = createRemoteJWKSet(
  new URL(issuer + "/.well-known/jwks.json"),
  lifespan ? { cacheMaxAge: Number(lifespan) * 1000 } : {},
);

const server = createServer(async (request, response) => {
  const token = (request.headers.authorization ?? "").replace(/^Bearer /, "");
  try {
    const { payload } = await jwtVerify(token, keys, { algorithms: [alg], ...(bare ? {} : checks) });
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
