"""Serves a verifier over HTTP.

Environment variables configure a service:

    SERVICE_ISSUER    the token server
    SERVICE_AUDIENCE  the name of this API there
    SERVICE_ALG       the one algorithm it accepts
    SERVICE_LIFESPAN  seconds that the key set is cached; unset: the library's default
    SERVICE_BARE      set: only the checks that the library does by default
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

    verify returns the claims of a valid token. An exception of refusals is answered with 401. Any
    other is a fault of the service and breaks the connection.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # one packet per answer: with two, the client's delayed ACK costs 40 ms

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
