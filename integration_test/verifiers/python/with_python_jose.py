"""python-jose verifies, with a key set that the API fetches itself, since python-jose fetches
none. It knows no EdDSA."""

from jose import jwk, jwt
from jose.exceptions import JOSEError, JWTError
from keyset import KeySet
from serving import ALG, AUDIENCE, BARE, ISSUER, KEYS, LIFESPAN, serve

# jwt.decode takes a whole set too, but tries every key in it, and one of another kind (OKP)
# raises before the right one is tried.
keys = KeySet(KEYS, ALG, LIFESPAN, lambda member: jwk.construct(member, ALG))
DEMANDS = {"require_iss": True, "require_aud": True, "require_exp": True, "require_sub": True}


def verify(token):
    header = jwt.get_unverified_header(token)
    # python-jose reads neither, though crit means "refuse me unless you understand"
    # (RFC 7515, section 4.1.11). The signature covers both.
    if not BARE and (header.get("typ") != "at+jwt" or "crit" in header):
        raise JWTError("not an access token")
    return jwt.decode(
        token,
        keys.find(str(header.get("kid"))),
        algorithms=[ALG],
        issuer=ISSUER,
        audience=AUDIENCE,
        # Without these a token that has no aud or exp is good for everybody, for ever.
        options={} if BARE else DEMANDS,
    )


if __name__ == "__main__":
    # TypeError: claims of the wrong type. OSError: no key set.
    serve(verify, (JOSEError, TypeError, OSError))
