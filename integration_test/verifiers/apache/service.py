"""An API behind Apache with mod_auth_openidc as an OAuth 2.0 resource server; see httpd.conf.
The API itself checks no token. It trusts the header that Apache sets.

It prints the address that Apache listens on, which answers GET with the subject of the
caller's token, or 401.

    SERVICE_ISSUER    the token server
    SERVICE_AUDIENCE  the name of this API there
    SERVICE_ALG       RS256 or ES256: the module's JOSE library does not support EdDSA
    SERVICE_LIFESPAN  seconds that the key set is cached, at least 300, the module's
                      minimum; unset: its default of 3600
    SERVICE_BARE      set: only the checks that the module does by default
"""

import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from urllib.parse import urlsplit

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE + "/../python")
from behind_proxy import Handler, Server, answers, free_port

ISSUER = os.environ["SERVICE_ISSUER"]


def main():
    port, runtime = free_port(), tempfile.mkdtemp(prefix="apache")
    backend = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=backend.serve_forever, daemon=True).start()
    settings = {
        "PORT": str(port), "BACKEND": str(backend.server_port), "RUNTIME": runtime, "JWKS_ORIGIN": ISSUER,
    }
    defines = ["-DBare"] if "SERVICE_BARE" in os.environ else []
    if os.geteuid() == 0:
        defines.append("-DRoot")
    if "SERVICE_LIFESPAN" in os.environ:
        defines.append("-DLifespan")
        settings["LIFESPAN"] = str(max(300, int(os.environ["SERVICE_LIFESPAN"])))
    if ISSUER.startswith("http:"):
        # The module fetches no key set over http, and the server under test has no TLS.
        defines.append("-DRelay")
        settings["JWKS_ORIGIN"] = start_relay(runtime)
    deadline = time.monotonic() + 15
    apache = subprocess.Popen(
        # SIGTERM when this process ends: after a SIGKILL Apache's children would go on.
        ["setpriv", "--pdeathsig", "TERM", "/usr/sbin/apache2", "-DFOREGROUND", *defines, "-f", HERE + "/httpd.conf"],
        env={**os.environ, **settings},
    )
    while apache.poll() is None and not answers(port):
        if time.monotonic() > deadline:
            apache.terminate()
            apache.wait()
        time.sleep(0.05)
    # From here on nothing opens a file in it. After a SIGKILL there would be no cleanup.
    shutil.rmtree(runtime)
    if apache.poll() is not None:
        sys.exit("Apache did not start")
    print(f"http://127.0.0.1:{port}/", flush=True)
    sys.exit(apache.wait())


def start_relay(directory):
    """Terminates TLS in front of the token server, as its proxy would. Returns the origin."""
    pem = directory + "/relay.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-subj", "/CN=127.0.0.1", "-days", "2", "-keyout", pem, "-out", pem + ".cert"],
        check=True, stderr=subprocess.DEVNULL,
    )
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(pem + ".cert", pem)
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=accept, args=(listener, tls), daemon=True).start()
    return f"https://127.0.0.1:{listener.getsockname()[1]}"


def accept(listener, tls):
    while True:
        client, _ = listener.accept()
        threading.Thread(target=relay, args=(client, tls), daemon=True).start()


def relay(client, tls):
    """Relays one request and its answer: the module opens a connection for each."""
    server = urlsplit(ISSUER)
    try:
        with tls.wrap_socket(client, server_side=True) as near, \
                socket.create_connection((server.hostname, server.port), timeout=10) as far:
            far.sendall(near.recv(16384).replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
            while chunk := far.recv(16384):
                near.sendall(chunk)
    except OSError:
        pass  # when one side has gone, the other connection is closed too


if __name__ == "__main__":
    main()
