package issuer

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"keymill/issuer/api"
	"keymill/issuer/password"
	"keymill/issuer/record"
	"keymill/issuer/scope"
	"keymill/issuer/secret"
	"keymill/issuer/tally"
	"keymill/keystore"
	"keymill/storage"
)

// CheckRecord returns an error that matches storage.ErrDamaged unless this package writes such a
// record under key. The values of refresh secrets are sealed and are checked when they are opened.
func CheckRecord(key string, raw []byte) (err error) {
	switch kind, name, _ := strings.Cut(key, "/"); kind {
	case "audience":
		_, err = record.Decode(key, raw, (*audienceRecord).possible)
	case "client":
		_, err = record.Decode(key, raw, (*clientRecord).possible)
	case "user":
		_, err = record.Decode(key, raw, (*userRecord).possible)
	case "gone":
		_, err = record.Decode(key, raw, (*goneRecord).possible)
	case "terms":
		_, err = decodeTerms(key, raw)
	case "origin", "scheme":
		_, err = record.Decode(key, raw, record.PossibleCount)
	case "id":
		err = checkKind(key, raw)
	case "login":
		err = checkLogin(key, raw)
	case "family":
		_, err = decodeFamily(key, raw)
	case "sessions":
		_, err = decodeSessionList(key, raw)
	case "denied":
		err = checkPresent(key, raw)
	case "due":
		if err = checkPresent(key, raw); err == nil {
			_, err = parseDue(key)
		}
	case "tally":
		err = tally.CheckRecord(key, raw)
	case "epoch":
		_, err = decodeEpoch(raw)
	case "refresh":
		if n, bad := strconv.ParseUint(strings.TrimPrefix(name, "secret/"), 10, 8); bad != nil || n == 0 {
			err = storage.Damaged(key, "it is not the number of a secret")
		}
	}
	return err
}

func (rec *audienceRecord) possible() bool {
	return slices.Contains(keystore.SupportedAlgorithms(), rec.Alg) && rec.ttl() >= minTTL && rec.ttl() <= maxTTL &&
		(rec.Profile == profileRFC9068 || rec.Profile == profileSimpleJWT) && rec.Clients >= 0 && slices.IsSorted(rec.Scopes)
}

func (rec *clientRecord) possible() bool {
	most := int64(MaxAbsolute / time.Second)
	return record.PossibleTime(rec.Created) && record.PossibleEpoch(rec.Epoch) && rec.Idle >= 0 && rec.Idle <= most && rec.Absolute >= 0 && rec.Absolute <= most &&
		(rec.Grace == nil || *rec.Grace >= 0 && *rec.Grace <= int64(MaxGrace/time.Second)) &&
		rec.Public == (len(rec.Secrets) == 0) && len(rec.Secrets) <= secret.Max && !slices.ContainsFunc(rec.Secrets, func(s secret.Record) bool { return !s.Possible() }) &&
		slices.IsSorted(rec.Scopes) && slices.IsSorted(rec.Audiences)
}

func (rec *userRecord) possible() bool {
	for _, t := range []time.Time{rec.PasswordChanged, rec.LastLogin} {
		if !t.IsZero() && !record.PossibleTime(t) {
			return false
		}
	}
	if rec.Password != "" {
		if _, err := password.CheckHash(string(rec.Password)); err != nil {
			return false
		}
	}
	// The claims are read by the type that refuses a member that is given twice.
	return rec.Name != "" && record.PossibleTime(rec.Created) && record.PossibleEpoch(rec.Epoch) &&
		(len(rec.Claims) == 0 || json.Unmarshal(rec.Claims, new(api.Claims)) == nil)
}

func (rec *goneRecord) possible() bool {
	return record.PossibleTime(rec.Until) && record.PossibleEpoch(rec.Epoch)
}

func (t *loginTerms) possible() bool {
	return t.Client != "" && len(t.Scopes) <= scope.Max && slices.IsSorted(t.Scopes) && slices.IsSorted(t.Audiences)
}

func decodeTerms(key string, raw []byte) (*loginTerms, error) {
	t, err := record.Decode(key, raw, (*loginTerms).possible)
	if err == nil && key != termsKey(termsIDOf(raw)) {
		err = storage.Damaged(key, "it has the content of another record")
	}
	return t, err
}

// possible reports whether the instants and enumerations of a family can be.
func (rec *familyRecord) possible() bool {
	return rec.end <= endedByLimit && rec.endpoint <= LoginBrowser && rec.secret > 0 && rec.endedAt.IsZero() == (rec.end == notEnded) &&
		record.PossibleTime(rec.created) && record.PossibleTime(rec.lastUsed) && (rec.endedAt.IsZero() || record.PossibleTime(rec.endedAt)) &&
		record.PossibleEpoch(rec.epochs.store) && record.PossibleEpoch(rec.epochs.user) && record.PossibleEpoch(rec.epochs.client) &&
		rec.scopes>>scope.Max == 0 && record.PossibleTime(rec.due) && (rec.deniedUntil.IsZero() || record.PossibleTime(rec.deniedUntil)) && validUserID(rec.user)
}

func checkPresent(key string, raw []byte) error {
	if string(raw) != string(presentValue) {
		return storage.Damaged(key, "it has another value than such a record")
	}
	return nil
}

func checkKind(key string, raw []byte) error {
	if kind := string(raw); kind != "client" && kind != "user" {
		return storage.Damaged(key, "it is neither of a client nor of a user")
	}
	return nil
}

func checkLogin(key string, raw []byte) error {
	if !validUserID(string(raw)) {
		return storage.Damaged(key, "it does not lead to the id of a user")
	}
	return nil
}

func decodeEpoch(raw []byte) (uint64, error) {
	if len(raw) == 8 {
		if epoch := binary.BigEndian.Uint64(raw); record.PossibleEpoch(epoch) {
			return epoch, nil
		}
	}
	return 0, storage.Damaged(epochKey, "its length or its value is impossible")
}

// isDenied reports whether an access token was revoked.
func isDenied(r storage.Reader, jti string) (bool, error) {
	raw, err := r.Get(deniedKey(jti))
	if errors.Is(err, storage.ErrNotFound) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	return true, checkPresent(deniedKey(jti), raw)
}
