package keystore

import (
	"cmp"
	"context"
	"crypto"
	"crypto/rsa"
	"errors"
	"math/big"
	"time"

	"keymill/keystore/internal/keyfile"
	"keymill/keystore/internal/keytype"
	"keymill/keystore/internal/schedule"
	"keymill/keystore/internal/signing"
	"keymill/storage"
	"keymill/storage/audit"
)

// An ImportRequest is a key of another system, imported so that its tokens stay valid.
type ImportRequest struct {
	Key     []byte    // PEM (PKCS #8, PKCS #1, SEC 1, SubjectPublicKeyInfo) or a JWK (RFC 7517)
	Alg     string    // must match the key; "" takes the key's own
	KID     string    // "" takes the JWK's own, else the RFC 7638 thumbprint
	Until   time.Time // if not zero, the key only verifies, until this decision time
	SignNow bool      // the key signs at once, because verifiers already know it
}

// A FormatError names the format of a key file that Import does not take.
type FormatError = keyfile.FormatError

// CheckFormat reports whether the key that Import would read from b has a private half. It returns a
// *FormatError if it recognises a format that Import does not take.
func CheckFormat(b []byte) (private bool, err error) { return keyfile.CheckFormat(b) }

const (
	maxImportBytes = 32 << 10
	maxSpares      = 8 // per ring, imported or not; a ring is one record

	maxPublished = 64 // with imports; checkRoom bounds the size as well
)

// Import adds a key that only verifies, is the next spare or signs now. The key keeps the
// kid that its tokens carry. Import refuses weak keys, revoked keys, keys that are stored
// under another kid, and kids that are used or were used before. by names the operator in
// the audit log.
func (r *Rings) Import(ctx context.Context, req ImportRequest, by string) (KeyInfo, error) {
	in, err := r.readImport(req)
	if err != nil {
		return KeyInfo{}, err
	}
	var out Key
	now := r.Now()
	err = r.operate(ctx, by, nil, func(d decision) error {
		now = d.now
		if err := r.checkUnused(d.tx, in); err != nil {
			return err
		}
		if len(r.snapshot.Load().published) >= maxPublished {
			return invalid("invalid_request", "%d keys are published already; revoke some, or wait until they are dropped", maxPublished)
		}
		before, err := getRing(d.tx, in.alg)
		if err != nil {
			return err
		}
		out = schedule.NewKey(in.kid, in.alg, in.public, before.MaxLifetime)
		out.Imported = true
		detail := map[string]string{"alg": in.alg, "as": "spare"}
		if !req.Until.IsZero() {
			out.Publish, out.Stop, out.Drop = d.now, d.now, req.Until.UTC()
			detail["as"] = "verify only until " + req.Until.UTC().Format(time.RFC3339)
			if err := r.checkRoom(d.now, before, out); err != nil {
				return err
			}
			err = putRetired(d.tx, out)
		} else {
			if req.SignNow {
				detail["as"] = "signer"
			}
			out, err = r.insertImported(d, before, out, in.private, req.SignNow)
		}
		return errors.Join(err, d.audit(audit.Event{Action: "key.import", Target: in.kid, Detail: detail}))
	})
	if err != nil {
		return KeyInfo{}, err
	}
	return infoOf(out, now, r.policy().Linger()), nil
}

// insertImported adds k to its ring and returns it with its instants.
func (r *Rings) insertImported(d decision, before ring, k Key, private crypto.Signer, signNow bool) (Key, error) {
	spares := 0
	for _, other := range before.Keys {
		if other.Stage(d.now) == Spare {
			spares++
		}
	}
	if spares >= maxSpares {
		return k, invalid("invalid_request", "the ring has %d spares already; revoke one first", spares)
	}
	after := before.Insert(k, d.now, r.policy(), signNow)
	advanced, stopped := after.Advance(d.now, r.policy())
	if err := r.checkRoom(d.now, advanced, stopped...); err != nil {
		return k, err
	}
	if err := errors.Join(r.putPrivate(d.tx, k.KID, private), r.putChange(d, before, after)); err != nil {
		return k, err
	}
	return advanced.Keys[advanced.Index(k.KID)], nil
}

// checkUnused refuses a kid that is used or was used before, and a key that is stored or was
// revoked under any kid.
func (r *Rings) checkUnused(tx storage.Reader, in importedKey) error {
	keys := []string{tombstoneKey(in.thumbprint), privateKey(in.kid), tombstoneKey(in.kid)}
	for _, alg := range SupportedAlgorithms() {
		keys = append(keys, retiredKey(alg, in.kid))
	}
	found, err := tx.GetAll(keys...)
	if err != nil {
		return err
	}
	if found[0] != nil {
		return invalid("already_exists", "this key was revoked here; a revoked key cannot be imported")
	}
	if err := r.checkOneKID(tx, in); err != nil {
		return err
	}
	for _, b := range found[1:] {
		if b != nil {
			return invalid("already_exists", "the kid %q is already used, or was; choose another one, because a kid is never used for two keys", quoted(in.kid))
		}
	}
	return r.checkPrimes(in)
}

// checkPrimes compares an RSA key with the published ones once more. checkRSA did so before the lock was
// taken, and another import may have come in between. Keys with small factors never come so far.
func (r *Rings) checkPrimes(in importedKey) error {
	public, err := keytype.ParsePublic(in.public)
	if err != nil {
		return err
	}
	k, ok := public.(*rsa.PublicKey)
	for _, other := range r.snapshot.Load().published {
		o, also := other.Public.(*rsa.PublicKey)
		if ok && also && k.N.Cmp(o.N) != 0 && new(big.Int).GCD(nil, nil, k.N, o.N).BitLen() > 128 {
			return invalid("invalid_request", "the RSA key shares a prime with the published key %q", other.KID)
		}
	}
	return nil
}

// checkOneKID refuses a key that is stored, either half of it. With two kids, a key that has become known would
// need two revocations.
func (r *Rings) checkOneKID(tx storage.Reader, in importedKey) error {
	same, err := r.storedKeys(tx, in.alg, in.public)
	if err != nil || len(same) == 0 {
		return err
	}
	until := ""
	if drop := same[0].Drop; !drop.Equal(schedule.Never) {
		until = " until " + drop.UTC().Format(time.RFC3339)
	}
	if same[0].KID == in.kid {
		return invalid("already_exists", "this key is already stored under the kid %q%s; nothing was changed", same[0].KID, until)
	}
	return invalid("already_exists", "this key is already stored under the kid %q%s; a key has only one kid, so that one revocation is enough", same[0].KID, until)
}

// An importedKey has been parsed and checked.
type importedKey struct {
	kid, alg   string
	thumbprint string // RFC 7638
	public     []byte
	private    crypto.Signer // nil if only the public half was given
}

// latestUntil leaves room for what is added to the end of a key before its private half is erased.
var latestUntil = time.Date(9000, 1, 1, 0, 0, 0, 0, time.UTC)

func (r *Rings) readImport(req ImportRequest) (importedKey, error) {
	refuse := func(format string, args ...any) (importedKey, error) {
		return importedKey{}, invalid("invalid_request", format, args...)
	}
	if len(req.Key) > maxImportBytes {
		return refuse("the key has %d bytes; at most %d are allowed", len(req.Key), maxImportBytes)
	}
	if !req.Until.IsZero() && req.SignNow {
		return refuse("a key that only verifies cannot sign: give until or sign_now, not both")
	}
	if !req.Until.IsZero() && !req.Until.After(r.Now()) {
		return refuse("until %s is in the past", req.Until.UTC().Format(time.RFC3339))
	}
	if req.Until.After(latestUntil) {
		return refuse("until %s is too late; at most %s is allowed", req.Until.UTC().Format(time.RFC3339), latestUntil.Format(time.RFC3339))
	}
	key, err := keyfile.Parse(req.Key)
	if err != nil {
		return refuse("%s", err)
	}
	alg, err := r.algorithmOf(key.Public)
	if err != nil {
		return refuse("%s", err)
	}
	for _, declared := range []string{key.Alg, req.Alg} {
		if declared == "Ed25519" { // the name in RFC 9864
			declared = EdDSA
		}
		if declared != "" && declared != alg {
			return refuse("the key is for %s, not for %s", alg, quoted(declared))
		}
	}
	if r.queues[alg] == nil {
		return refuse("%s is not in keys.algorithms; add it there first", alg)
	}
	if key.Private == nil && req.Until.IsZero() {
		return refuse("the key has only a public half, which cannot sign; give until for a key that only verifies")
	}
	return checkImport(key, alg, cmp.Or(req.KID, key.KID))
}

// checkImport completes a key of alg. Without a kid it takes the thumbprint.
func checkImport(key keyfile.Key, alg, kid string) (importedKey, error) {
	in := importedKey{kid: kid, alg: alg, private: key.Private}
	var err error
	if in.thumbprint, err = keytype.Thumbprint(key.Public); err != nil {
		return in, err
	}
	in.kid = cmp.Or(in.kid, in.thumbprint)
	if err := checkKID(in.kid); err != nil {
		return in, err
	}
	if in.private != nil {
		if err := keyfile.CheckPrivate(in.private); err != nil {
			return in, invalid("invalid_request", "%s", err)
		}
		if _, err := signing.New(in.private, in.alg, in.kid); err != nil {
			return in, invalid("invalid_request", "the private half does not belong to the public half")
		}
	}
	in.public, err = keytype.MarshalPublic(key.Public)
	return in, err
}

// checkKID bounds the kids of imported keys. The keys that we make have thumbprints.
func checkKID(kid string) error {
	if kid == "" || len(kid) > schedule.MaxKIDBytes {
		return invalid("invalid_request", "the kid has %d characters; 1 to %d are allowed", len(kid), schedule.MaxKIDBytes)
	}
	if !schedule.ValidKID(kid) {
		return invalid("invalid_request", "the kid %+q must be visible ASCII without spaces", quoted(kid))
	}
	return nil
}
