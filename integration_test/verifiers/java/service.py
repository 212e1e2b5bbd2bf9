"""Runs the service of docs/verify/jose4j.md as it stands there. Only what every reader changes is replaced: the issuer, the audience,
the algorithm and the port. It prints the address it listens on and answers GET with the subject of the caller's token, or 401.

    SERVICE_ISSUER     the token server
    SERVICE_AUDIENCE   the name of this API there
    SERVICE_ALG        the one algorithm it accepts
    SERVICE_DIRECTORY  an empty directory
    SERVICE_BARE       set: only the checks that the library does by default

Its argument is the class path. It needs no SERVICE_LIFESPAN, because jose4j obeys max-age.
"""

import os
import re
import sys

PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../docs/verify/jose4j.md")
SETTING = r"^ +\.set(Expected|Require|JwsAlgorithm).*\n"

with open(PAGE, encoding="utf-8") as page:
    program = re.search(r"^```java\n(.*?)^```$", page.read(), re.M | re.S)[1]
for old, new in {
    "https://id.example.com": os.environ["SERVICE_ISSUER"],
    '"orders"': f'"{os.environ["SERVICE_AUDIENCE"]}"',
    '"EdDSA"': f'"{os.environ["SERVICE_ALG"]}"',
    "8080": "0",
}.items():
    if program.count(old) != 1:
        sys.exit(f"{PAGE} has {program.count(old)} times {old}")
    program = program.replace(old, new)
if "SERVICE_BARE" in os.environ:
    # Without this, a token with an audience is refused.
    program = re.sub(SETTING, "", program, flags=re.M).replace(".build()", ".setSkipDefaultAudienceValidation().build()")
source = os.environ["SERVICE_DIRECTORY"] + "/Orders.java"
with open(source, "w", encoding="utf-8") as file:
    file.write(program)
# Less time for the compilers, because the service lives for seconds. Without nodelay, the client's delayed ACK costs 40 ms.
flags = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Dsun.net.httpserver.nodelay=true"]
os.execvp("java", ["java", *flags, "-cp", sys.argv[1], source])
