"""The key set of an issuer, for libraries that fetch none."""

import json
import threading
import time
import urllib.request

LIFESPAN = 300


class KeySet:
    """It fails closed: a set that cannot be renewed is not used.

    load makes the library's key of a member of the set, of which only those of alg count: a
    key of another algorithm must not meet the token, and one of a type that the library does
    not know must not cost the others.
    """

    def __init__(self, url, alg, lifespan, load):
        self.url, self.alg, self.load = url, alg, load
        self.lifespan = lifespan or LIFESPAN
        self.cooldown = min(10, self.lifespan)  # seconds between two fetches, whatever arrives
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
                raise ValueError("no such key")
            return self.keys[kid]

    def fetch(self):
        started = time.monotonic()
        with urllib.request.urlopen(self.url, timeout=5) as response:
            found = json.load(response)["keys"]
        self.keys = {k["kid"]: self.load(k) for k in found if k.get("alg") == self.alg}
        self.fetched = started
