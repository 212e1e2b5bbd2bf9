// A typical Node service: get-jwks fetches the keys, fast-jwt verifies.
// It prints the address it listens on and answers GET / with the subject of the
// caller's token, or 401 and the reason.
import { createServer } from "node:http";
import { createVerifier } from "fast-jwt";
import { options, publicKey } from "./from_get_jwks.mjs";

const verify = createVerifier({ key: ({ header }) => publicKey(header.kid), ...options });

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
