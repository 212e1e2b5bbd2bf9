// A typical Fastify service: @fastify/jwt verifies with keys that get-jwks fetches. It prints
// the address it listens on and answers GET / with the subject of the caller's token, or 401
// and the reason.
import fastifyJwt from "@fastify/jwt";
import Fastify from "fastify";
import { options, publicKey } from "./from_get_jwks.mjs";

const app = Fastify();
app.register(fastifyJwt, {
  decode: { complete: true },
  secret: (request, token) => publicKey(token.header.kid),
  verify: options,
});
app.addHook("onRequest", (request) => request.jwtVerify());
app.get("/", (request) => ({ sub: request.user.sub }));
app.setErrorHandler((error, request, reply) => reply.code(401).send({ error: `${error.code}: ${error.message}` }));

await app.listen({ port: 0, host: "127.0.0.1" });
console.log(`http://127.0.0.1:${app.server.address().port}/`);
