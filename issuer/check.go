package issuer

import (
	"slices"
	"strings"
	"time"

	"keymill/issuer/accesstoken"
	"keymill/issuer/adminscope"
	"keymill/issuer/audience"
	"keymill/issuer/claim"
	"keymill/issuer/due"
	"keymill/issuer/epoch"
	"keymill/issuer/gone"
	"keymill/issuer/loginname"
	"keymill/issuer/loginterms"
	"keymill/issuer/names"
	"keymill/issuer/origin"
	"keymill/issuer/password"
	"keymill/issuer/record"
	"keymill/issuer/refreshtoken"
	"keymill/issuer/scope"
	"keymill/issuer/secret"
	"keymill/issuer/sessionlist"
	"keymill/issuer/tally"
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
		_, err = record.Decode(key, raw, (*clientRecord).possible)
	case "user":
		named = names.IsUser(name)
		_, err = record.Decode(key, raw, (*userRecord).possible)
	case "gone":
		named = names.IsClient(name)
		_, err = gone.Decode(key, raw)
	case "terms":
		_, err = loginterms.Decode(key, raw)
	case "origin":
		named = isOrigin(name)
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

func (rec *clientRecord) possible() bool {
	most := int64(MaxAbsolute / time.Second)
	return record.PossibleSecond(rec.Created) && record.PossibleEpoch(rec.Epoch) && rec.Idle >= 0 && rec.Idle <= most && rec.Absolute >= 0 && rec.Absolute <= most &&
		(rec.Absolute == 0 || rec.Idle <= rec.Absolute) && (rec.Grace == nil || *rec.Grace >= 0 && *rec.Grace <= int64(MaxGrace/time.Second)) &&
		rec.Public == (len(rec.Secrets) == 0) && secret.Possible(rec.Secrets) && (len(rec.Claims) == 0 || claim.PossibleFlat(rec.Claims)) && rec.possibleLists() &&
		(!slices.Contains(rec.named(), adminscope.Audience) || adminscope.Possible(rec.settings()))
}

func (rec *clientRecord) possibleLists() bool {
	return record.PossibleList(rec.Grants, len(grantNames), isGrant) && record.PossibleList(rec.Audiences, maxAudiences, names.IsAudience) &&
		record.PossibleList(rec.Scopes, scope.Max, scope.Valid) && record.PossibleList(rec.Origins, maxOrigins, isOrigin) &&
		record.PossibleList(append([]string{}, rec.Introspect...), maxAudiences, names.IsAudience) && len(rec.named()) <= maxAudiences &&
		(!rec.Public || len(rec.Introspect) == 0 && !slices.Contains(rec.Grants, "client_credentials"))
}

// grantNames are those of grants, which the functions in it cannot read.
var grantNames = []string{"client_credentials", "refresh_token"}

func isGrant(name string) bool { return slices.Contains(grantNames, name) }

// isOrigin allows http, which insecure may have allowed when the client was stored.
func isOrigin(s string) bool { return origin.Check(s, true) == nil }

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
