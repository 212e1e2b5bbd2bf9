"""Authlib verifies. It fetches no key set, so the API fetches it."""

from authlib.jose import JsonWebKey, JsonWebToken
from authlib.jose.errors import InvalidClaimError, JoseError
from keyset import KeySet
from serving import ALG, AUDIENCE, BARE, ISSUER, KEYS, LIFESPAN, serve

# Key by key: import_key_set fails for the whole set if it does not know the type of one key.
keys = KeySet(KEYS, ALG, LIFESPAN, JsonWebKey.import_key)
# Not authlib.jose.jwt, which accepts every algorithm.
jwt = JsonWebToken([ALG])
CLAIMS = {
    "iss": {"essential": True, "value": ISSUER},
    "aud": {"essential": True, "value": AUDIENCE},
    "exp": {"essential": True},
    "sub": {"essential": True},
}


def verify(token):
    claims = jwt.decode(token, lambda header, _: keys.find(str(header.get("kid"))), claims_options=CLAIMS)
    if BARE:
        return claims
    claims.validate()  # decode checks no claims
    if claims.header.get("typ") != "at+jwt":
        raise InvalidClaimError("typ")
    return claims


if __name__ == "__main__":
    # Authlib raises TypeError or ValueError for malformed parts. OSError: no key set.
    serve(verify, (JoseError, TypeError, OSError))
