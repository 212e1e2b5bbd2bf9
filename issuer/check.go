package issuer

import (
	"strings"

	"keymill/issuer/accesstoken"
	"keymill/issuer/audience"
	"keymill/issuer/claim"
	"keymill/issuer/client"
	"keymill/issuer/due"
	"keymill/issuer/epoch"
	"keymill/issuer/gone"
	"keymill/issuer/loginname"
	"keymill/issuer/loginterms"
	"keymill/issuer/names"
	"keymill/issuer/password"
	"keymill/issuer/record"
	"keymill/issuer/refreshtoken"
	"keymill/issuer/scope"
	"keymill/issuer/sessionlist"
	"keymill/issuer/tally"
	"keymill/issuer/unblocked"
	"keymill/issuer/username"
	"keymill/storage"
)

// CheckRecord returns an error that matches storage.ErrDamaged unless this package writes such a
// record under key. The values of refresh secrets are sealed and are checked when they are opened.
func CheckRecord(key string, raw []byte) (err error) {
	kind, name, _ := strings.Cut(key, "/")
	named := true
	switch kind {
	case "audience":
		named = names.IsAudience(name)
		_, err = audience.Decode(key, raw)
	case "client":
		named = names.IsClient(name)
		_, err = record.Decode(key, raw, (*clientRecord).Possible)
	case "user":
		named = names.IsUser(name)
		_, err = record.Decode(key, raw, (*userRecord).possible)
	case "gone":
		named = names.IsClient(name)
		_, err = gone.Decode(key, raw)
	case "unblocked":
		named = names.IsUser(name)
		_, err = unblocked.Decode(key, raw)
	case "terms":
		_, err = loginterms.Decode(key, raw)
	case "origin":
		named = client.IsOrigin(name)
		_, err = record.Decode(key, raw, record.PossibleCount)
	case "scheme":
		err = password.CheckCount(key, raw)
	case "id":
		named, err = names.IsClient(name), checkKind(key, raw)
	case "login":
		err = loginname.CheckRecord(key, raw)
	case "family":
		_, err = decodeFamily(key, raw)
	case "sessions":
		of, ok := tally.Parse(name)
		named = ok && names.IsUser(of.User) && names.IsClient(of.Client)
		_, err = sessionlist.Decode(key, raw)
	case "denied":
		named, err = accesstoken.IsName(name), record.CheckPresent(key, raw)
	case "due":
		if err = record.CheckPresent(key, raw); err == nil {
			_, err = due.Parse(key)
		}
	case "tally":
		named, err = due.IsTally(name), tally.CheckRecord(key, raw)
	case "epoch":
		named = key == epoch.Key
		_, err = record.DecodeEpoch(key, raw)
	case "refresh":
		_, named = refreshtoken.ParseSecretKey(key)
	default:
		named = false
	}
	if err == nil && !named {
		err = storage.Damaged(key, "no such record has this name")
	}
	return err
}

func (rec *userRecord) possible() bool {
	if rec.Password != "" {
		if _, err := password.CheckHash(string(rec.Password)); err != nil {
			return false
		}
	}
	changed := !rec.PasswordChanged.IsZero()
	return username.Possible(rec.Name) && record.PossibleSecond(rec.Created) && record.PossibleEpoch(rec.Epoch) &&
		changed == (rec.Password != "") && (!changed || record.PossibleSecond(rec.PasswordChanged)) &&
		(rec.LastLogin.IsZero() || record.PossibleSecond(rec.LastLogin)) &&
		(len(rec.Claims) == 0 || claim.Possible(rec.Claims)) && rec.Addresses.Possible()
}

// possible reports whether this program can have written the values of a family. Only a rotation counts
// retries and generations that look shared.
func (rec *familyRecord) possible() bool {
	return rec.end <= endedByLimit && rec.endpoint >= LoginSimpleJWT && rec.endpoint <= LoginBrowser && rec.secret > 0 && rec.endedAt.IsZero() == (rec.end == notEnded) &&
		storage.PossibleTime(rec.created) && storage.PossibleTime(rec.lastUsed) && (rec.endedAt.IsZero() || storage.PossibleTime(rec.endedAt)) &&
		(rec.generation > 0 || rec.lastUsed.Equal(rec.created) && rec.retries == 0 && !rec.elsewhere) && uint32(rec.shared) <= rec.generation &&
		record.PossibleEpoch(rec.epochs.store) && record.PossibleEpoch(rec.epochs.user) && record.PossibleEpoch(rec.epochs.client) &&
		rec.scopes>>scope.Max == 0 && storage.PossibleTime(rec.due) && (rec.deniedUntil.IsZero() || storage.PossibleTime(rec.deniedUntil)) && names.IsUser(rec.user)
}

func checkKind(key string, raw []byte) error {
	if kind := string(raw); kind != "client" && kind != "user" {
		return storage.Damaged(key, "it is neither of a client nor of a user")
	}
	return nil
}
