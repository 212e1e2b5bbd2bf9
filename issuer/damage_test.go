package issuer

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"keymill/issuer/accesstoken"
	"keymill/issuer/api"
	"keymill/issuer/claim"
	"keymill/issuer/due"
	"keymill/issuer/loginname"
	"keymill/issuer/loginterms"
	"keymill/issuer/outage"
	"keymill/issuer/record"
	"keymill/issuer/refusal"
	"keymill/issuer/sessionlist"
	"keymill/storage"
	"keymill/storage/storagetest"
)

// all returns the records below the tags.
func (w *world) all() map[string][]byte {
	w.t.Helper()
	found := map[string][]byte{}
	if err := w.file.View(w.t.Context(), func(r storage.Reader) (err error) {
		for e, failed := range r.Scan(" ", "\x7f") {
			found[e.Key], err = e.Value, errors.Join(err, failed)
		}
		return err
	}); err != nil {
		w.t.Fatal(err)
	}
	return found
}

// putBelow writes a record below the tags.
func (w *world) putBelow(key string, stored []byte) {
	w.t.Helper()
	if err := w.file.Update(w.t.Context(), func(tx storage.Tx) error { return tx.Put(key, stored) }); err != nil {
		w.t.Fatal(err)
	}
}

// damages of one record, with its value: one without a valid tag, the others with one.
var damages = map[string]func(value []byte) []byte{
	"one bit":         nil,
	"a trailing byte": func(v []byte) []byte { return append(bytes.Clone(v), ' ') },
	"another form": func(v []byte) []byte {
		switch {
		case len(v) > 0 && v[0] == '{':
			return append(bytes.Clone(v[:len(v)-1]), `,"more":1}`...)
		case len(v) > 20:
			w := bytes.Clone(v)
			w[1] = 200 // of a family: an ending that does not exist
			return w[:len(w)-1]
		}
		return []byte("\x00")
	},
}

const tagBytes = 17

// TestADamagedRecordFailsOnlyWhoNeedsIt: for each record and each kind of damage, a request that worked
// works still or fails as unavailable. It is never refused or answered in another way, a denied token is
// never active, and the record stays as it is.
//
// I23.
func TestADamagedRecordFailsOnlyWhoNeedsIt(t *testing.T) {
	storagetest.SkipIfRerunning(t, "the terms of a login never change, and an earlier run keeps them in memory")
	w := newWorld(t)
	w.web(func(c *api.NewClient) { c.Origins = []string{"https://app.example.com"} })
	secret := w.service("billing", "stock", "count")
	w.withPassword("alice", "7", testPassword, "")
	w.user("bob", "8")
	mine, denied, other := w.begin("7"), w.begin("7"), w.begin("8")
	if err := w.Revoke(t.Context(), noSecret, refusal.Secret(denied.grant.AccessToken), home); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	probes := map[string]func() error{
		"client_credentials": func() error { _, err := w.token("billing", secret); return err },
		"refresh token":      func() error { return w.VerifyToken(ctx, "web", mine.grant.Refresh) },
		"access token":       func() error { return w.VerifyToken(ctx, "web", refusal.Secret(mine.grant.AccessToken)) },
		"other session":      func() error { return w.VerifyToken(ctx, "web", other.grant.Refresh) },
		"denied token": func() error {
			err := w.VerifyToken(ctx, "web", refusal.Secret(denied.grant.AccessToken))
			var r *refusal.Refusal
			if err == nil || !errors.As(err, &r) && !errors.Is(err, storage.ErrDamaged) {
				t.Errorf("a denied token: %v", err)
			}
			if errors.As(err, &r) {
				return nil
			}
			return err
		},
		"login": func() error {
			return w.store.View(ctx, func(r storage.Reader) error { _, _, _, err := w.passwordOf(r, "alice"); return err })
		},
		"origin":   func() error { _, err := w.KnowsOrigin(ctx, "https://app.example.com"); return err },
		"new user": func() error { _, err := w.CheckUser(ctx, api.ImportedUser{ID: "7", Name: "x"}); return notRefused(err) },
		"sessions": func() error { _, err := w.Sessions(ctx, SessionQuery{Limit: 10}); return err },
		"users":    func() error { _, err := w.Users(ctx, "", 10); return err },
		"clients":  func() error { _, err := w.Clients(ctx, "", 10); return err },
		"alice": func() error {
			_, err := w.StartSession(ctx, SessionRequest{User: "7", Client: "web", Endpoint: LoginBrowser, From: home})
			return err
		},
	}
	var terms []string
	for key := range w.all() {
		if strings.HasPrefix(key, "terms/") {
			terms = append(terms, key)
		}
	}
	session := func(p *person) string { return "family/" + p.grant.Session }
	needs := map[string][]string{
		"audience/stock":                 {"client_credentials"},
		"audience/orders":                {"refresh token", "other session", "alice"},
		"client/billing":                 {"client_credentials"},
		"client/web":                     {"refresh token", "access token", "other session", "denied token", "alice"},
		"id/7":                           {"new user"},
		"origin/https://app.example.com": {"origin"},
		"user/7":                         {"refresh token", "access token", "alice", "login"},
		loginname.Key("alice"):           {"login"},
		session(mine):                    {"refresh token", "access token"},
		session(other):                   {"other session"},
		terms[0]:                         {"refresh token", "access token", "other session"},
		"epoch":                          {"refresh token", "access token", "other session", "alice"},
		"sessions/01/7/web":              {"alice"},
		"denied/" + must[*accesstoken.Token](t)(w.verifyOwn(refusal.Secret(denied.grant.AccessToken))).ID: {"denied token"},
	}
	for key, who := range needs {
		for name, damage := range damages {
			whole := w.all()[key]
			if whole == nil {
				t.Fatalf("no record %s", key)
			}
			broken := bytes.Clone(whole)
			if damage == nil {
				broken[len(broken)/3] ^= 4
				w.putBelow(key, broken)
			} else {
				value := damage(whole[:len(whole)-tagBytes])
				if err := w.store.Update(ctx, func(tx storage.Tx) error { return tx.Put(key, value) }); err != nil {
					t.Fatal(err)
				}
				broken = w.all()[key]
			}
			w.terms = loginterms.Cache{}
			failed := map[string]bool{}
			for probe, run := range probes {
				err := run()
				switch _, _, unavailable := outage.Of(err); {
				case err == nil:
				case errors.Is(err, storage.ErrDamaged) && unavailable:
					failed[probe] = true
					if !strings.Contains(err.Error(), key) && !strings.HasPrefix(key, "terms/") {
						t.Errorf("%s, %s: %s does not name it: %v", key, name, probe, err)
					}
				default:
					t.Errorf("%s, %s: %s got %v", key, name, probe, err)
				}
			}
			for _, probe := range who {
				if !failed[probe] {
					t.Errorf("%s, %s: %s did not need it", key, name, probe)
				}
			}
			for _, list := range []string{"sessions", "users", "clients"} {
				if failed[list] && (key != "epoch" || list != "sessions") {
					t.Errorf("%s, %s: hides all %s", key, name, list)
				}
			}
			if now := w.all()[key]; !bytes.Equal(now, broken) {
				t.Errorf("%s, %s: the record was changed", key, name)
			}
			if damage == nil {
				w.putBelow(key, whole)
				continue
			}
			value := whole[:len(whole)-tagBytes]
			if err := w.store.Update(ctx, func(tx storage.Tx) error { return tx.Put(key, value) }); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func notRefused(err error) error {
	if r := (*refusal.Refusal)(nil); errors.As(err, &r) {
		return nil
	}
	return err
}

// TestALoginNeverTakesDamageForAnUnknownUser: neither that of the user nor that of the name.
//
// I23.
func TestALoginNeverTakesDamageForAnUnknownUser(t *testing.T) {
	w := newWorld(t)
	w.web()
	w.withPassword("alice", "7", testPassword, "")
	w.withPassword("bob", "8", testPassword, "")
	for _, key := range []string{userKey("7"), loginname.Key("alice")} {
		whole := w.all()[key]
		broken := bytes.Clone(whole)
		broken[0] ^= 1
		w.putBelow(key, broken)
		for _, typed := range []refusal.Secret{testPassword, "wrong password, which is long"} {
			if _, err := w.login("alice", typed); !errors.Is(err, storage.ErrForged) {
				t.Errorf("%s damaged: %v", key, err)
			}
		}
		if _, err := w.login("bob", testPassword); err != nil {
			t.Errorf("%s damaged: another user: %v", key, err)
		}
		w.putBelow(key, whole)
	}
	if err := w.store.Update(t.Context(), func(tx storage.Tx) error { return tx.Delete(userKey("7")) }); err != nil {
		t.Fatal(err)
	}
	if _, err := w.login("alice", testPassword); !errors.Is(err, storage.ErrDamaged) {
		t.Errorf("without the record of the user: %v", err)
	}
}

// TestEveryRecordPassesItsCheck, and none with another byte, another member or an impossible value.
func TestEveryRecordPassesItsCheck(t *testing.T) {
	w := newWorld(t)
	w.web(func(c *api.NewClient) { c.Origins = []string{"https://app.example.com"} })
	w.withPassword("alice", "7", testPassword, "")
	p := w.begin("7")
	if err := errors.Join(
		w.Revoke(t.Context(), noSecret, refusal.Secret(p.grant.AccessToken), home), w.RevokeAllSessions(t.Context(), "test"),
		w.RemoveUser(t.Context(), "7", "test"),
	); err != nil {
		t.Fatal(err)
	}
	w.withPassword("bob", "8", testPassword, "")
	w.begin("8")
	kinds := map[string]bool{}
	for key, stored := range w.all() {
		kind, _, _ := strings.Cut(key, "/")
		if slices.Contains([]string{"meta", "keyring", "manifest", "clock", "ring", "retired", "private", "certificate", "tombstone", "audit", "issuer"}, kind) {
			continue
		}
		kinds[kind] = true
		value := stored[:len(stored)-tagBytes]
		if err := CheckRecord(key, value); err != nil {
			t.Error(err)
		}
		if kind == "refresh" {
			continue
		}
		for _, bad := range [][]byte{append(bytes.Clone(value), 0), append(bytes.Clone(value), ' '), value[:len(value)-1], nil, []byte("{}")} {
			if kind == "family" && (len(bad) > len(value)-2 || len(bad) == 2) || kind == "login" && len(bad) == 2 {
				continue // another user id, which only the tag can tell, or a later version
			}
			var d *storage.DamageError
			if err := CheckRecord(key, bad); !errors.As(err, &d) || d.Key != key {
				t.Errorf("%s accepts %q: %v", key, bad, err)
			}
		}
	}
	for _, kind := range []string{"audience", "client", "id", "origin", "user", "login", "scheme", "family", "terms", "sessions", "due", "denied", "refresh", "epoch", "gone", "tally"} {
		if !kinds[kind] {
			t.Errorf("no record %s was checked", kind)
		}
	}
	for key, value := range map[string]string{
		"audience/a":    `{"alg":"HS256","ttl":60,"scopes":[],"profile":"rfc9068","clients":0}`,
		"audience/b":    `{"alg":"EdDSA","ttl":0,"scopes":[],"profile":"rfc9068","clients":0}`,
		"user/7":        `{"name":"a","epoch":1,"created":"2026-01-01T00:00:00Z"}`,
		"user/8":        `{"name":"a","epoch":0,"created":"0001-01-01T00:00:00Z"}`,
		"user/9":        `{"name":"a","epoch":0,"claims":{"a":1,"a":2},"created":"2026-01-01T00:00:00Z"}`,
		"user/10":       `{"name":"a","password":"sha1$x","epoch":0,"created":"2026-01-01T00:00:00Z"}`,
		"client/x":      `{"grants":[],"audiences":[],"scopes":[],"origins":[],"created":"2026-01-01T00:00:00Z"}`,
		"client/y":      `{"public":true,"grants":[],"audiences":[],"scopes":[],"origins":[],"created":"2026-01-01T00:00:00Z","idle":-1}`,
		"gone/7":        `{"epoch":0,"until":"1970-01-01T00:00:00Z"}`,
		"terms/x":       `{"client":"web","audiences":[],"scopes":[]}`,
		"due/x/f/y":     "1",
		"due/00000001/": "1",
	} {
		if err := CheckRecord(key, []byte(value)); !errors.Is(err, storage.ErrDamaged) {
			t.Errorf("%s accepts %s", key, value)
		}
	}
}

// oldFamily reads an earlier version of a family record, which had no fingerprint of an address. Only this
// test has ever written it.
func oldFamily(key string, b []byte) *familyRecord {
	const at, cut = 60, 4
	if len(b) <= at {
		return nil
	}
	whole := slices.Concat(b[:at], make([]byte, cut), b[at:])
	whole[0] = familyVersion
	return decodeNewestFamily(key, whole)
}

// TestTwoVersionsOfARecordAreReadDuringAnUpgrade: the version before is read and written as the newest;
// a later one is not called damage.
func TestTwoVersionsOfARecordAreReadDuringAnUpgrade(t *testing.T) {
	w := newWorld(t)
	w.web()
	w.user("alice", "7")
	p := w.begin("7")
	key := "family/" + p.grant.Session
	read := func() (value []byte) {
		if err := w.store.View(t.Context(), func(r storage.Reader) (err error) { value, err = r.Get(key); return err }); err != nil {
			t.Fatal(err)
		}
		return value
	}
	write := func(value []byte) {
		if err := w.store.Update(t.Context(), func(tx storage.Tx) error { return tx.Put(key, value) }); err != nil {
			t.Fatal(err)
		}
	}
	newest := read()
	old := slices.Concat(newest[:60], newest[64:])
	old[0] = familyVersion - 1
	write(old)
	if _, err := w.refresh(p.grant.Refresh); !errors.Is(err, storage.ErrDamaged) {
		t.Errorf("a program that knows one version: %v", err)
	}
	w.families = record.Versions[familyRecord]{familyVersion - 1: oldFamily, familyVersion: decodeNewestFamily}
	g, err := w.refresh(p.grant.Refresh)
	if err != nil {
		t.Fatal(err)
	}
	if now := read(); now[0] != familyVersion || len(now) != len(newest) || binary.BigEndian.Uint32(now[56:]) != 1 {
		t.Errorf("after a refresh it is %x", now)
	}
	later := read()
	later[0] = familyVersion + 1
	write(later)
	_, err = w.refresh(g.Refresh)
	if _, _, unavailable := outage.Of(err); !unavailable || errors.Is(err, storage.ErrDamaged) || !strings.Contains(err.Error(), "newer version of Keymill") {
		t.Errorf("a later version: %v", err)
	}
	if !bytes.Equal(read(), later) {
		t.Error("the record of the later version was changed")
	}
}

// TestTheCleanUpSetsDamageAside: it leaves damaged entries, denied tokens and families as they are,
// reports them, and does the rest.
//
// I23.
func TestTheCleanUpSetsDamageAside(t *testing.T) {
	w := newWorld(t)
	w.web()
	w.user("alice", "7")
	now := w.keys.ErasureTime()
	var entries, denied []string
	if err := w.store.Update(t.Context(), func(tx storage.Tx) error {
		entries, denied = nil, nil
		for range 20 {
			jti := claim.NewTokenID()
			denied = append(denied, accesstoken.DeniedKey(jti))
			key := due.Key(now.Add(-time.Hour), due.Token, jti)
			entries = append(entries, key)
			if err := errors.Join(tx.Put(key, record.Present()), tx.Put(accesstoken.DeniedKey(jti), record.Present())); err != nil {
				return err
			}
		}
		return tx.Put("due/zz", record.Present())
	}); err != nil {
		t.Fatal(err)
	}
	forged := []string{entries[0], entries[3], denied[1]}
	for _, key := range forged {
		stored := w.all()[key]
		stored[len(stored)-1] ^= 1
		w.putBelow(key, stored)
	}
	before, reported := w.all(), map[string]bool{}
	w.damaged = func(err error) {
		if d := (*storage.DamageError)(nil); errors.As(err, &d) {
			reported[d.Key] = true
		}
	}
	if err := w.sweep(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
	after := w.all()
	for _, key := range forged {
		if !bytes.Equal(before[key], after[key]) || !reported[key] {
			t.Errorf("%s was changed or not reported", key)
		}
	}
	left := 0
	for key := range after {
		if strings.HasPrefix(key, "denied/") {
			left++
		}
	}
	if left != 3 { // the damaged one, and those whose entries are damaged
		t.Errorf("%d denied tokens are left, want 3", left)
	}
}

// TestTheCleanUpOfOtherSessionsGoesOn if one of the user is damaged, and so do logins that end the session
// that was unused for the longest time. The damaged one is deleted once it was restored.
//
// I23.
func TestTheCleanUpOfOtherSessionsGoesOn(t *testing.T) {
	inBubble(t, 6*time.Hour, func(t *testing.T, a *bubble) {
		a.web()
		a.user("alice", "7")
		damaged := a.begin("7")
		for range sessionlist.Max - 1 {
			time.Sleep(time.Millisecond)
			a.begin("7")
		}
		key := "family/" + damaged.grant.Session
		whole := a.all()[key]
		broken := bytes.Clone(whole)
		broken[70] ^= 1
		a.putBelow(key, broken)
		families := func() (keys []string) {
			for k := range a.all() {
				if strings.HasPrefix(k, "family/") {
					keys = append(keys, k)
				}
			}
			return keys
		}
		for range 2 { // the list is full
			time.Sleep(time.Millisecond)
			a.begin("7")
		}
		if n := len(families()); n != sessionlist.Max+2 {
			t.Errorf("%d sessions after two more logins", n)
		}
		time.Sleep(DefaultIdle + 25*time.Hour)
		if left := families(); len(left) != 1 || left[0] != key || !bytes.Equal(a.all()[key], broken) {
			t.Errorf("the clean-up left %d sessions", len(left))
		}
		a.begin("7")
		a.putBelow(key, whole)
		time.Sleep(25 * time.Hour)
		if a.all()[key] != nil {
			t.Error("the session that was restored is not deleted")
		}
		a.begin("7")
	})
}

// TestAReplayOverADamagedTallyEndsTheSession, and has an audit record. The tally stays as it is.
//
// I23.
func TestAReplayOverADamagedTallyEndsTheSession(t *testing.T) {
	w := newWorld(t)
	w.web()
	w.user("alice", "7")
	const key = "tally/01/7/web"
	for name, end := range map[string]func(p *person, old refusal.Secret) error{
		"replay": func(p *person, old refusal.Secret) error { _, err := w.refresh(old); return notRefused(err) },
		"logout": func(p *person, _ refusal.Secret) error {
			return w.Logout(t.Context(), RefreshRequest{Client: "web", Token: p.grant.Refresh, From: home})
		},
		"revoked": func(p *person, _ refusal.Secret) error {
			return w.Revoke(t.Context(), noSecret, p.grant.Refresh, home)
		},
	} {
		p := w.begin("7")
		old := p.grant.Refresh
		for range 2 {
			g, err := w.refresh(p.grant.Refresh)
			if err != nil {
				t.Fatal(err)
			}
			p.grant.Refresh = g.Refresh
		}
		whole := w.all()[key]
		broken := bytes.Clone(whole)
		broken[len(broken)/2] ^= 1
		w.putBelow(key, broken)
		if err := end(p, old); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := w.refresh(p.grant.Refresh); notRefused(err) != nil || err == nil {
			t.Errorf("%s: the session goes on: %v", name, err)
		}
		if !bytes.Equal(w.all()[key], broken) {
			t.Errorf("%s: the tally was changed", name)
		}
		w.wantAudited("session."+name, 1)
		w.putBelow(key, whole)
	}
}
