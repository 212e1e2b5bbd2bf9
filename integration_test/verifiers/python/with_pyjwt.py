"""PyJWT fetches the key set and verifies."""

import jwt
from serving import ALG, AUDIENCE, BARE, ISSUER, KEYS, LIFESPAN, serve

lifespan = {"lifespan": LIFESPAN} if LIFESPAN else {}  # else PyJWT's own 300 s
# cache_keys stays off: it keeps single keys without a lifespan, so also revoked ones.
keys = jwt.PyJWKClient(KEYS, **lifespan)


def verify(token):
    claims = jwt.decode(
        token,
        keys.get_signing_key_from_jwt(token).key,
        algorithms=[ALG],
        issuer=ISSUER,
        audience=AUDIENCE,
        # A claim that is not there is checked only if it is required.
        options={} if BARE else {"require": ["iss", "aud", "exp", "sub"]},
    )
    # The signature covers the header too, and no option of PyJWT's reads its typ.
    if not BARE and jwt.get_unverified_header(token).get("typ") != "at+jwt":
        raise jwt.InvalidTokenError("not an access token")
    return claims


if __name__ == "__main__":
    # TypeError: the header names a key of another kind, or a claim is of the wrong type.
    # OSError: a key set that broke off.
    serve(verify, (jwt.PyJWTError, TypeError, OSError))
