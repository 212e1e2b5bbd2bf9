// A typical Express service: express-oauth2-jwt-bearer finds the key set through discovery and
// verifies. It prints the address it listens on and answers GET / with the subject of the
// caller's token, or 401 and the reason.
//
//   SERVICE_ISSUER    the token server
//   SERVICE_AUDIENCE  the name of this API there
//   SERVICE_ALG       the one algorithm it accepts
//   SERVICE_LIFESPAN  seconds that the key set is cached; unset: the library's own 600
//   SERVICE_BARE      set: only the checks that the library does by default
//
// The library contains jose 4.15, whose cooldown of 30 s stays: an unknown kid fetches at most
// that often.
import express from "express";
import { auth } from "express-oauth2-jwt-bearer";

const { SERVICE_ISSUER: issuer, SERVICE_AUDIENCE: audience, SERVICE_ALG: alg, SERVICE_LIFESPAN: lifespan, SERVICE_BARE: bare } = process.env;

const checks = {
  strict: true, // typ at+jwt, and every claim that RFC 9068 requires
  clockTolerance: 0, // its default of 5 s accepts expired tokens
};

const app = express();
app.disable("x-powered-by");

// The library also accepts a token in the query or in a form, which logs may record.
app.use((request, response, next) => {
  if (!request.headers.authorization) return response.status(401).json({ error: "no token" });
  next();
});
app.use(
  auth({
    issuerBaseURL: issuer,
    audience,
    tokenSigningAlg: alg,
    ...(bare ? {} : checks),
    ...(lifespan ? { cacheMaxAge: Number(lifespan) * 1000 } : {}),
  }),
);
app.get("/", (request, response) => response.json({ sub: request.auth.payload.sub }));

// The library answers 400 if the header has no bearer token.
app.use((error, request, response, next) => {
  response.status(401).json({ error: `${error.code ?? error.name}: ${error.message}` });
});

const server = app.listen(0, "127.0.0.1", () => {
  console.log(`http://127.0.0.1:${server.address().port}/`);
});
