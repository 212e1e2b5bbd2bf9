"""PyJWT fetches the key set and verifies."""

import jwt
from serving import ALG, AUDIENCE, BARE, ISSUER, KEYS, LIFESPAN, serve

lifespan = {"lifespan": LIFESPAN} if LIFESPAN else {}  # else PyJWT's own 300 s
# cache_keys stays off: it caches single keys without a lifespan, so revoked keys too.
keys = jwt.PyJWKClient(KEYS, **lifespan)


def verify(token):
    claims = jwt.decode(
        token,
        keys.get_signing_key_from_jwt(token).key,
        algorithms=[ALG],
        issuer=ISSUER,
        audience=AUDIENCE,
        # A missing claim is an error only if the claim is required.
        options={} if BARE else {"require": ["iss", "aud", "exp", "sub"]},
    )
    # The signature covers the header too, and no option of PyJWT checks its typ.
    if not BARE and jwt.get_unverified_header(token).get("typ") != "at+jwt":
        raise jwt.InvalidTokenError("not an access token")
    return claims


if __name__ == "__main__":
    # TypeError: the header names a key of another type, or a claim has the wrong type.
    # OSError: the connection failed while the key set was read.
    serve(verify, (jwt.PyJWTError, TypeError, OSError))
