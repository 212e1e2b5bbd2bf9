"""A service that stands behind a proxy which verifies tokens, and what is needed to start that proxy.

The service itself checks no token. It answers GET with the subject in the header that the proxy sets.
"""

import json
import socket
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet per answer: with two, the client's delayed ACK costs 40 ms

    def do_GET(self):
        body = json.dumps({"sub": self.headers["X-Subject"]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 64


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def answers(port):
    """A proxy can open its port before it has read its configuration, so try a request."""
    probe = HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        probe.request("GET", "/")
        return probe.getresponse().status == 401
    except (OSError, HTTPException):
        return False
    finally:
        probe.close()
