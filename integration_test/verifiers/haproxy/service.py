"""An API behind HAProxy, with the files of docs/verify/haproxy.md as they stand there. Only what every reader
changes is replaced: the issuer, the audience, the directory, the port, and systemctl.

The API itself checks no token. It trusts the header that HAProxy sets. This program prints the address that
HAProxy listens on, which answers GET with the subject of the caller's token, or 401.

    SERVICE_ISSUER    the token server
    SERVICE_AUDIENCE  the name of this API there
    SERVICE_ALG       RS256 or ES256; the page has RS256
    SERVICE_KEYMILL   the program keymill
    SERVICE_LIFESPAN  seconds: a key export follows the key set, whose max-age is as long; unset: a timer of a minute
    SERVICE_BARE      set: only the signature is checked
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE + "/../python")
from behind_proxy import Handler, Server, answers, free_port

PAGE = HERE + "/../../../docs/verify/haproxy.md"
ISSUER, AUDIENCE = os.environ["SERVICE_ISSUER"], os.environ["SERVICE_AUDIENCE"]
KEYMILL, ALG = os.environ["SERVICE_KEYMILL"], os.environ["SERVICE_ALG"]

BACKEND = """
defaults
	mode http
	timeout connect 1m
	timeout server 1m
backend shop
	server api 127.0.0.1:%d
"""


def main():
    port, directory = free_port(), tempfile.mkdtemp(prefix="haproxy")
    os.chmod(directory, 0o755)
    backend = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=backend.serve_forever, daemon=True).start()
    script, frontend = blocks(port, directory)
    write(directory + "/haproxy.cfg", frontend + BACKEND % backend.server_port)
    write(directory + "/update", script)
    write(directory + "/bin/systemctl", '#!/bin/sh\n[ ! -e pid ] || kill -USR2 "$(cat pid)"\n')
    os.symlink(KEYMILL, directory + "/bin/keymill")
    environment = {**os.environ, "PATH": directory + "/bin:" + os.environ["PATH"]}

    def update():
        subprocess.run(["sh", directory + "/update"], env=environment, check=True, stdout=subprocess.DEVNULL)

    update()
    haproxy = subprocess.Popen(
        # SIGTERM when this process ends: after a SIGKILL the worker would go on.
        ["setpriv", "--pdeathsig", "TERM", "/usr/sbin/haproxy", "-W", "-f", directory], stdout=sys.stderr,
    )
    write(directory + "/pid", str(haproxy.pid))
    deadline = time.monotonic() + 15
    while haproxy.poll() is None and not answers(port):
        if time.monotonic() > deadline:
            haproxy.terminate()
            haproxy.wait()
        time.sleep(0.05)
    if haproxy.poll() is not None:
        shutil.rmtree(directory)
        sys.exit("HAProxy did not start")
    threading.Thread(target=follow, args=(directory, update, environment), daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: haproxy.terminate())
    print(f"http://127.0.0.1:{port}/", flush=True)
    haproxy.wait()
    shutil.rmtree(directory, ignore_errors=True)


def follow(directory, update, environment):
    """Does what a timer does or, with a short lifespan, what a unit with PathChanged= does beside a watch."""
    if "SERVICE_LIFESPAN" not in os.environ:
        while True:
            time.sleep(60)
            update()
    subprocess.Popen(
        ["setpriv", "--pdeathsig", "TERM", KEYMILL, "key", "export", "--watch", "--issuer", ISSUER, "--format", "pem",
         "--alg", ALG, "--dir", directory + "/keys"], env=environment, stdout=subprocess.DEVNULL,
    )
    manifest, seen = directory + "/keys/.keymill-export.json", None
    while True:
        if (now := os.stat(manifest).st_ino) != seen:
            seen = now
            update()
        time.sleep(0.05)


def blocks(port, directory):
    """Returns the script and the frontend of the page."""
    with open(PAGE, encoding="utf-8") as page:
        text = page.read()
    found = dict(re.findall(r"^```(\w+)\n(.*?)^```$", text, re.M | re.S))
    script, frontend = (replace(found[language], directory) for language in ("sh", "haproxy"))
    frontend = frontend.replace("bind :8080", f"bind 127.0.0.1:{port}").replace("-m str shop", "-m str " + AUDIENCE)
    if "SERVICE_BARE" in os.environ:
        frontend = "".join(line for line in frontend.splitlines(True) if " deny " not in line or "txn.signed" in line)
    return script, frontend


def replace(text, directory):
    for old, new in (("https://id.example.com", ISSUER), ("/etc/haproxy", directory), ("RS256", ALG)):
        if old not in text and old != "/etc/haproxy":
            sys.exit(f"{PAGE} has no {old}")
        text = text.replace(old, new)
    return text


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(path, 0o755)


if __name__ == "__main__":
    main()
