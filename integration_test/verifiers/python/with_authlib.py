"""Authlib verifies, with a key set that the API fetches itself, since Authlib fetches none."""

from authlib.jose import JsonWebKey, JsonWebToken
from authlib.jose.errors import InvalidClaimError, JoseError
from keyset import KeySet
from serving import ALG, AUDIENCE, BARE, ISSUER, KEYS, LIFESPAN, serve

# Key by key: one of a type that Authlib does not know would fail the whole import_key_set.
keys = KeySet(KEYS, ALG, LIFESPAN, JsonWebKey.import_key)
# Not authlib.jose.jwt, which takes every algorithm there is.
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
    claims.validate()  # decode looks at no claim
    if claims.header.get("typ") != "at+jwt":
        raise InvalidClaimError("typ")
    return claims


if __name__ == "__main__":
    # TypeError: what Authlib raises for malformed parts, with ValueError. OSError: no key set.
    serve(verify, (JoseError, TypeError, OSError))
