"""python-jose verifies. It fetches no key set, so the API fetches it. It does not support EdDSA."""

from jose import jwk, jwt
from jose.exceptions import JOSEError, JWTError
from keyset import KeySet
from serving import ALG, AUDIENCE, BARE, ISSUER, KEYS, LIFESPAN, serve

# jwt.decode accepts a whole set too, but it tries every key, and a key of another type (OKP)
# raises before the right key is tried.
keys = KeySet(KEYS, ALG, LIFESPAN, lambda member: jwk.construct(member, ALG))
REQUIRED = {"require_iss": True, "require_aud": True, "require_exp": True, "require_sub": True}


def verify(token):
    header = jwt.get_unverified_header(token)
    # python-jose checks neither. A token with a crit that is not understood must be refused (RFC
    # 7515, section 4.1.11). The signature covers both.
    if not BARE and (header.get("typ") != "at+jwt" or "crit" in header):
        raise JWTError("not an access token")
    return jwt.decode(
        token,
        keys.find(str(header.get("kid"))),
        algorithms=[ALG],
        issuer=ISSUER,
        audience=AUDIENCE,
        # Without these, a token without aud or exp is accepted everywhere and forever.
        options={} if BARE else REQUIRED,
    )


if __name__ == "__main__":
    # TypeError: claims of the wrong type. OSError: no key set.
    serve(verify, (JOSEError, TypeError, OSError))
