"""Puts a verifier behind HTTP, as each of these services needs it.

A service is told what it has to know by variables:

    SERVICE_ISSUER    the token server
    SERVICE_AUDIENCE  the name of this API there
    SERVICE_ALG       the one algorithm it accepts
    SERVICE_LIFESPAN  seconds that the key set is cached; unset: as the library has it
    SERVICE_BARE      nothing is demanded that the library does not demand by itself
"""

import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ISSUER = os.environ["SERVICE_ISSUER"]
AUDIENCE = os.environ["SERVICE_AUDIENCE"]
ALG = os.environ["SERVICE_ALG"]
LIFESPAN = int(os.environ["SERVICE_LIFESPAN"]) if "SERVICE_LIFESPAN" in os.environ else None
BARE = "SERVICE_BARE" in os.environ
KEYS = ISSUER + "/.well-known/jwks.json"


class Server(ThreadingHTTPServer):
    request_queue_size = 64


def serve(verify, refusals):
    """Prints the address it listens on, and answers GET with the subject of the caller's token.

    verify returns the claims of a good token. What it raises of refusals is 401; anything
    else is a mistake of the service and breaks the connection.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # an answer in one packet: two make the client's delayed ACK cost 40 ms

        def do_GET(self):
            scheme, _, token = self.headers.get("Authorization", "").partition(" ")
            try:
                if scheme.lower() != "bearer":
                    raise ValueError("no bearer token")
                status, answer = 200, {"sub": verify(token)["sub"]}
            except (ValueError, *refusals) as error:
                status, answer = 401, {"error": f"{type(error).__name__}: {error}"}
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = Server(("127.0.0.1", 0), Handler)
    print(f"http://127.0.0.1:{server.server_port}/", flush=True)
    server.serve_forever()
