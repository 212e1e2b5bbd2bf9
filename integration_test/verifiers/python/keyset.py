"""The key set of an issuer, for libraries that do not fetch it."""

import json
import threading
import time
import urllib.request

LIFESPAN = 300


class KeySet:
    """It fails closed: a set that cannot be renewed is not used.

    load converts a member of the set to the library's key. Only members of alg are converted: a
    key of another algorithm must not verify the token, and a key of a type that the library does
    not know must not make the whole set fail.
    """

    def __init__(self, url, alg, lifespan, load):
        self.url, self.alg, self.load = url, alg, load
        self.lifespan = lifespan or LIFESPAN
        self.cooldown = min(10, self.lifespan)  # seconds between two fetches, even for unknown kids
        self.lock = threading.Lock()
        self.keys = {}  # kid → key
        self.fetched = self.tried = -self.cooldown - self.lifespan

    def find(self, kid):
        with self.lock:
            now = time.monotonic()
            if now >= self.fetched + self.lifespan:
                self.keys = {}
            if kid not in self.keys and now >= self.tried + self.cooldown:
                self.tried = now
                self.fetch()
            if kid not in self.keys:
                raise ValueError("unknown kid")
            return self.keys[kid]

    def fetch(self):
        started = time.monotonic()
        with urllib.request.urlopen(self.url, timeout=5) as response:
            found = json.load(response)["keys"]
        self.keys = {k["kid"]: self.load(k) for k in found if k.get("alg") == self.alg}
        self.fetched = started
