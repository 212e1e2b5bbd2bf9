package keystore

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"time"

	"github.com/go-jose/go-jose/v4"

	"keymill/storage"
	"keymill/storage/audit"
)

// An ImportRequest brings a key from elsewhere, so that its live tokens stay good.
type ImportRequest struct {
	Key     []byte    // PEM (PKCS #8, PKCS #1, SubjectPublicKeyInfo) or a JWK (RFC 7517)
	Alg     string    // "" where the key says it
	KID     string    // "" means the JWK's own, else the RFC 7638 thumbprint
	Until   time.Time // not zero: verify only, until then
	SignNow bool      // verifiers know the key already
}

const (
	maxImportBytes = 32 << 10
	maxKIDBytes    = 200
	maxSpares      = 8 // imported or not; a ring is one record

	// maxPublished keeps the set far below what verifiers read (ours: 256 KiB). Rotation is
	// bounded by what the settings say; imports are not.
	maxPublished = 64
)

// Import adds a key that verifies only, is the next spare, or signs now. It keeps the kid
// that live tokens carry. Duplicate and revoked kids and weak keys are refused.
func (r *Rings) Import(ctx context.Context, req ImportRequest, by string) (KeyInfo, error) {
	in, err := r.readImport(req)
	if err != nil {
		return KeyInfo{}, err
	}
	var out Key
	now := r.Now()
	err = r.operate(ctx, func(tx storage.Tx) error {
		now = r.Now()
		if err := free(tx, in); err != nil {
			return err
		}
		if len(r.view.Load().published) >= maxPublished {
			return invalid("invalid_request", "%d keys are published already; revoke some, or wait until they are dropped", maxPublished)
		}
		before, err := getRing(tx, in.alg)
		if err != nil {
			return err
		}
		out = newKey(in.kid, in.alg, in.public, before.Cap)
		detail := map[string]string{"alg": in.alg, "as": "spare"}
		if !req.Until.IsZero() {
			out.Publish, out.Stop, out.Drop = now, now, req.Until.UTC()
			detail["as"] = "verify only until " + req.Until.UTC().Format(time.RFC3339)
			err = putJSON(tx, retiredKey(in.alg, in.kid), out)
		} else {
			if req.SignNow {
				detail["as"] = "signer"
			}
			out, err = r.adopt(tx, before, out, in.private, now, req.SignNow, by)
		}
		return errors.Join(err, audit.Append(tx, now,
			audit.Event{Action: "key.import", By: by, Target: in.kid, Detail: detail}))
	})
	if err != nil {
		return KeyInfo{}, err
	}
	return out.info(now, r.policy.skew()), nil
}

func (r *Rings) adopt(tx storage.Tx, before ring, k Key, private crypto.Signer, now time.Time, signNow bool, by string) (Key, error) {
	spares := 0
	for _, other := range before.Keys {
		if other.Stage(now) == Spare {
			spares++
		}
	}
	if spares >= maxSpares {
		return k, invalid("invalid_request", "%d spares wait already; revoke one first", spares)
	}
	after := before.adopt(k, now, r.policy, signNow)
	if err := errors.Join(r.putPrivate(tx, k.KID, private), r.change(tx, before, after, now, by)); err != nil {
		return k, err
	}
	settled, _ := after.settle(now, r.policy)
	return settled.Keys[settled.find(k.KID)], nil
}

// free refuses a kid that is in any place where one can be, and a key that was revoked,
// whatever it is called now.
func free(tx storage.Reader, in imported) error {
	found, err := tx.GetAll(tombstoneKey(in.thumb), privateKey(in.kid), tombstoneKey(in.kid),
		retiredKey(EdDSA, in.kid), retiredKey(RS256, in.kid))
	if err != nil {
		return err
	}
	if found[0] != nil {
		return invalid("already_exists", "this key was revoked here, and does not come back")
	}
	for _, b := range found[1:] {
		if b != nil {
			return invalid("already_exists", "the kid %q is, or was, in use here; a kid never stands for two keys", in.kid)
		}
	}
	return nil
}

// An imported key has been read and found good.
type imported struct {
	kid, alg string
	thumb    string // RFC 7638
	public   []byte
	private  crypto.Signer // nil if only the public half was given
}

func (r *Rings) readImport(req ImportRequest) (imported, error) {
	bad := func(format string, args ...any) (imported, error) {
		return imported{}, invalid("invalid_request", format, args...)
	}
	if len(req.Key) > maxImportBytes {
		return bad("the key is over %d bytes", maxImportBytes)
	}
	if !req.Until.IsZero() && req.SignNow {
		return bad("a key that verifies only cannot sign: give until or sign_now, not both")
	}
	if !req.Until.IsZero() && !req.Until.After(r.Now()) {
		return bad("until lies in the past")
	}
	public, private, kid, declared, err := parseKey(req.Key)
	if err != nil {
		return bad("%s", err)
	}
	alg, err := algorithm(public)
	if err != nil {
		return bad("%s", err)
	}
	for _, said := range []string{declared, req.Alg} {
		if said == "Ed25519" { // as RFC 9864 calls it
			said = EdDSA
		}
		if said != "" && said != alg {
			return bad("the key is for %s, not for %s", alg, said)
		}
	}
	if r.queues[alg] == nil {
		return bad("no ring signs with %s; add it to keys.algorithms first", alg)
	}
	if private == nil && req.Until.IsZero() {
		return bad("only the public half was given: such a key can verify until a time (--until), not sign")
	}
	return finishImport(imported{alg: alg, private: private}, public, req.KID, kid)
}

func finishImport(in imported, public crypto.PublicKey, kids ...string) (imported, error) {
	var err error
	for _, kid := range kids {
		if in.kid == "" {
			in.kid = kid
		}
	}
	if in.thumb, err = thumbprint(public); err != nil {
		return in, err
	}
	in.kid = cmp.Or(in.kid, in.thumb)
	if err := checkKID(in.kid); err != nil {
		return in, err
	}
	if in.private != nil {
		if _, err := newSigner(in.private, in.alg, in.kid); err != nil {
			return in, invalid("invalid_request", "the private half does not fit the public one")
		}
	}
	in.public, err = marshalPublic(public)
	return in, err
}

// checkKID bounds the kid of others; ours are thumbprints.
func checkKID(kid string) error {
	if kid == "" || len(kid) > maxKIDBytes {
		return invalid("invalid_request", "a kid has 1 to %d characters", maxKIDBytes)
	}
	for _, c := range []byte(kid) {
		if c <= ' ' || c > '~' {
			return invalid("invalid_request", "a kid is visible ASCII without spaces")
		}
	}
	return nil
}

var errKeyFormat = errors.New("the key is neither PEM (PKCS #8, PKCS #1, SubjectPublicKeyInfo) nor a JWK")

// parseKey reads a key pair or a public key. private is nil for the latter.
func parseKey(b []byte) (public crypto.PublicKey, private crypto.Signer, kid, alg string, err error) {
	var key any
	if block, rest := pem.Decode(b); block != nil {
		if len(bytes.TrimSpace(rest)) > 0 {
			return nil, nil, "", "", errors.New("one key at a time: something follows the first PEM block")
		}
		key, err = parsePEM(block)
	} else {
		var jwk jose.JSONWebKey
		if json.Unmarshal(b, &jwk) != nil || !jwk.Valid() {
			return nil, nil, "", "", errKeyFormat
		}
		if jwk.Use != "" && jwk.Use != "sig" {
			return nil, nil, "", "", errors.New("the JWK is not for signatures (use)")
		}
		key, kid, alg = jwk.Key, jwk.KeyID, jwk.Algorithm
	}
	if err != nil {
		return nil, nil, "", "", err
	}
	if s, ok := key.(crypto.Signer); ok {
		return s.Public(), s, kid, alg, nil
	}
	return key, nil, kid, alg, nil
}

// parsePEM never passes an error of the parser on, which could quote the key.
func parsePEM(block *pem.Block) (any, error) {
	switch block.Type {
	case "PRIVATE KEY":
		if key, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
			return key, nil
		}
	case "RSA PRIVATE KEY":
		if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
			return key, nil
		}
	case "PUBLIC KEY":
		if key, err := x509.ParsePKIXPublicKey(block.Bytes); err == nil {
			return key, nil
		}
	case "RSA PUBLIC KEY":
		if key, err := x509.ParsePKCS1PublicKey(block.Bytes); err == nil {
			return key, nil
		}
	case "ENCRYPTED PRIVATE KEY":
		return nil, errors.New("the key is encrypted; decrypt it first (openssl pkey -in FILE)")
	}
	return nil, errKeyFormat
}
