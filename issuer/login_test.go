package issuer

import (
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"keymill/issuer/api"
	"keymill/issuer/loginname"
	"keymill/issuer/record"
	"keymill/issuer/refusal"
	"keymill/storage"
)

func (w *world) login(name string, password refusal.Secret, change ...func(*LoginRequest)) (Grant, error) {
	req := LoginRequest{Client: "web", Endpoint: LoginBrowser, Name: name, Password: password, From: home}
	for _, f := range change {
		f(&req)
	}
	return w.Login(w.t.Context(), req)
}

func (w *world) withPassword(name, id string, password, hash refusal.Secret) {
	w.t.Helper()
	var err error
	if hash != "" {
		_, err = w.ImportUser(w.t.Context(), api.ImportedUser{ID: id, Name: name, Hash: hash}, "uid:0")
	} else {
		_, err = w.AddUser(w.t.Context(), api.NewUser{ID: id, Name: name, Password: password}, "uid:0")
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func TestALoginBeginsASession(t *testing.T) {
	w := newWorld(t)
	w.web()
	w.withPassword("alice", "7", testPassword, "")
	g, err := w.login("alice", testPassword)
	if err != nil || g.User != "7" || g.Scope != "read write" || g.RefreshFor != DefaultIdle {
		t.Fatalf("the login: got %+v, %v", g, err)
	}
	if _, err := w.refresh(g.Refresh); err != nil {
		t.Error(err)
	}
	w.wantAudited("session.login", 1)
	if text := fmt.Sprintf("%v %+v", g.Refresh, g); strings.Contains(text, "kmr_") {
		t.Errorf("a secret is printed: %s", text)
	}
}

// All refusals are the same, and none is sent before the time of the slowest class is over. A test in
// integration_test/numbers checks that all take the same time.
//
// R98.
func TestEveryFailedLoginLooksTheSame(t *testing.T) {
	w := newWorld(t)
	w.web()
	w.withPassword("alice", "7", testPassword, "")
	w.withPassword("dave", "9", "", "")
	w.withPassword("bob", "8", testPassword, "")
	if _, err := w.SetUser(t.Context(), "bob", api.UserChange{Disabled: new(true)}, "uid:0"); err != nil {
		t.Fatal(err)
	}
	const slow = refusal.Secret("pbkdf2_sha256$600000$saltsaltsalt$kqUq9zBmNRNTtRwQXnqOHBcDoBnJJhAhfA0jjbRC5Hc=")
	w.withPassword("imported", "10", "", slow)
	var hints []string
	for name, password := range map[string]refusal.Secret{
		"alice": "a wrong pass phrase", "unknown": testPassword, "dave": testPassword, "bob": testPassword,
		"imported": testPassword, "": testPassword, "ALICE": testPassword,
	} {
		began := time.Now()
		_, err := w.login(name, password)
		took, now := time.Since(began), time.Now()
		hints = append(hints, refused(t, err, "invalid_credentials"))
		if least := w.passwords.FailAt(now).Sub(now); took < least {
			t.Errorf("%q was refused after %v, want no sooner than after %v", name, took, least)
		}
	}
	for _, hint := range hints {
		if hint != hints[0] {
			t.Errorf("hints differ: %q", hints)
		}
	}
}

// TestADamagedUserTakesTheTimeOfAWrongPassword, whatever is damaged and whichever password is tried: an
// immediate failure would tell that the user exists. No detail of the damage is in the count for the limits.
//
// R98, I23.
func TestADamagedUserTakesTheTimeOfAWrongPassword(t *testing.T) {
	w := newWorld(t)
	w.web()
	for n, name := range []string{"alice", "bit", "name", "gone", "value", "other"} {
		w.withPassword(name, strconv.Itoa(n+1), testPassword, "")
	}
	flip := func(key string) {
		stored := w.all()[key]
		stored[len(stored)/2] ^= 4
		w.putBelow(key, stored)
	}
	flip(userKey("2"))
	flip(loginname.Key("name"))
	if err := w.store.Update(t.Context(), func(tx storage.Tx) error {
		rec, err := w.findUser(tx, "5")
		if err != nil {
			return err
		}
		impossible := *rec
		impossible.Epoch = 0
		return errors.Join(tx.Delete(userKey("4")), record.PutJSON(tx, userKey("5"), &impossible), tx.Put(loginname.Key("other"), []byte("1")))
	}); err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]string{"bit": "==2", "name": "?name", "gone": "==4", "value": "==5", "other": must[LoginCount](t)(w.LoginCountOf(t.Context(), "1")).Key} {
		if count, err := w.LoginCount(t.Context(), name, home); err != nil || count != (LoginCount{Key: key}) {
			t.Errorf("%s is counted as %+v, %v", name, count, err)
		}
		for _, typed := range []refusal.Secret{testPassword, "a wrong pass phrase"} {
			began := time.Now()
			_, err := w.login(name, typed)
			took, now := time.Since(began), time.Now()
			if !errors.Is(err, storage.ErrDamaged) || refusal.CodeOf(err) != DamagedLogin {
				t.Errorf("%s: got %v", name, err)
			}
			if least := w.passwords.FailAt(now).Sub(now); took < least {
				t.Errorf("%s was refused after %v, want no sooner than after %v", name, took, least)
			}
		}
	}
	if _, err := w.login("alice", testPassword); err != nil {
		t.Errorf("another user: %v", err)
	}
}

// R98.
func TestAFailedLoginIsAnsweredExactlyAtItsTime(t *testing.T) {
	inBubble(t, 6*time.Hour, func(t *testing.T, a *bubble) {
		// No class is measured yet, so the answer is due when hashing began. Time in a bubble
		// advances only while all wait, which makes the pause exact.
		for n, pause := range []time.Duration{0, time.Millisecond, 240 * time.Millisecond, 240 * time.Millisecond, 3 * time.Second, 3 * time.Second} {
			began := time.Now().Add(pause)
			why := map[bool]error{true: errWrongPassword, false: storage.Damaged("user/7", "x")}[n%2 == 0]
			if err := a.refuseLogin(t.Context(), began, why); n%2 == 1 && err != why {
				t.Errorf("damage became %v", err)
			} else if n%2 == 0 {
				refused(t, err, "invalid_credentials")
			}
			if late := time.Since(began); late != 0 {
				t.Errorf("a failure that is due after %v is answered %v late", pause, late)
			}
		}
	})
}

// TestEveryHasherOfDjangoLogsIn once imported, and leaves an argon2id hash. The hashes are cheap; the
// tests of package password check those with Django's own costs.
func TestEveryHasherOfDjangoLogsIn(t *testing.T) {
	w := newWorld(t)
	w.web()
	const scrypted = "QMBRDuNq7pljC9V+clmpGo+/U//V5nQlsLBnaDD9vK5WG80UWev7M6KyTAM0hUJc1RssTgKy001SIjbeho4/iQ=="
	for scheme, hash := range map[string]refusal.Secret{
		"pbkdf2_sha256": "pbkdf2_sha256$1000$seasalt$3xmXbyk2QpiyNcnoBbzRPwEBsYPTbDlRdtmLyBvQltA=",
		"pbkdf2_sha1":   "pbkdf2_sha1$1000$seasalt$9iRYj0as1r5j+cCBxB+HMlxkyr4=",
		"bcrypt":        "bcrypt$$2b$04$yKZfiDiPPfK7RFQ5MEnGp.nVU.tdeM7o7MiV3q7L6lLtcOh66IQWO",
		"bcrypt_sha256": "bcrypt_sha256$$2b$04$OzndycOHpng8Bl3kKKN1S..bTSHIc6LwkS/xl5W4GIm0SFvHUUuiW",
		"scrypt":        "scrypt$1024$seasalt$8$1$" + scrypted,
		"argon2id":      "argon2$argon2id$v=19$m=512,t=2,p=2$c2Vhc2FsdHNlYXNhbHQ$el3QmcdTHWN0WkR+CUgpuA",
	} {
		w.withPassword(scheme, "u-"+scheme, "", hash)
		if u, err := w.User(t.Context(), scheme); err != nil || u.Scheme != scheme {
			t.Errorf("%s is imported as %+v, %v", scheme, u, err)
		}
		if _, err := w.login(scheme, testPassword); err != nil {
			t.Errorf("%s: %v", scheme, err)
		}
		if u, err := w.User(t.Context(), scheme); err != nil || u.Scheme != "argon2id" {
			t.Errorf("after the login of %s: %+v, %v", scheme, u, err)
		}
	}
}

// TestARefusedHashCanBeLeftOut: the user is imported without a password. A hash that is accepted is kept.
func TestARefusedHashCanBeLeftOut(t *testing.T) {
	w := newWorld(t)
	w.web()
	for name, hash := range map[string]refusal.Secret{
		"md5": "md5$salt$cf1f9350d5d0958050c8f199e2878b44", "sha1": "sha1$salt$acfc213f12ba4157884373461bfb04cc2089e825",
		"unsalted": "9cc2ae8a1ba7a93da39b46fc1019c481", "dear": "pbkdf2_sha256$5000001$salt$kqUq9zBmNRNTtRwQXnqOHBcDoBnJJhAhfA0jjbRC5Hc=",
		"unknown": "unknown$hash", "unusable": "!x",
	} {
		u := api.ImportedUser{Name: name, Hash: hash}
		if name != "unusable" {
			_, err := w.CheckUser(t.Context(), u)
			refused(t, err, "invalid_request")
			_, err = w.ImportUser(t.Context(), u, "uid:0")
			refused(t, err, "invalid_request")
		}
		u.WithoutPassword = true
		if checked, err := w.CheckUser(t.Context(), u); err != nil || checked.Scheme != "none" {
			t.Errorf("%s is checked as %+v, %v", name, checked, err)
		}
		if added, err := w.ImportUser(t.Context(), u, "uid:0"); err != nil || added.Scheme != "none" || added.PasswordChanged != nil {
			t.Errorf("%s is imported as %+v, %v", name, added, err)
		}
		_, err := w.login(name, testPassword)
		refused(t, err, "invalid_credentials")
	}
	kept, err := w.ImportUser(t.Context(), api.ImportedUser{Name: "kept", Hash: djangoHash, WithoutPassword: true}, "uid:0")
	if err != nil || kept.Scheme != "pbkdf2_sha256" {
		t.Errorf("a hash that is accepted is imported as %+v, %v", kept, err)
	}
}

func TestAnImportedHashIsReplacedAtTheFirstLogin(t *testing.T) {
	w := newWorld(t)
	w.web()
	w.withPassword("alice", "7", "", djangoHash)
	p := w.begin("7")
	if _, err := w.login("alice", testPassword); err != nil {
		t.Fatal(err)
	}
	if u, err := w.User(t.Context(), "alice"); err != nil || u.Scheme != "argon2id" {
		t.Errorf("the user is %+v, %v, want the scheme argon2id", u, err)
	}
	if n := w.records("scheme/"); n != 1 {
		t.Errorf("%d schemes are counted, want 1", n)
	}
	if _, err := w.login("alice", testPassword); err != nil {
		t.Error(err)
	}
	p.rotate() // a better hash of the same password ends nothing
	w.wantAudited("user.rehash", 1)
}

// For every user, and before any password is hashed.
func TestALoginThroughAnUnfitClientIsRefused(t *testing.T) {
	w := newWorld(t)
	w.web(func(c *api.NewClient) { c.Audiences = []string{"orders", "stock"} })
	w.withPassword("alice", "7", testPassword, "")
	for code, change := range map[string]func(*LoginRequest){
		"unauthorized_client": func(r *LoginRequest) { r.Client = "absent" },
		"invalid_target":      func(r *LoginRequest) {},
		"invalid_scope":       func(r *LoginRequest) { r.Audience, r.Scope = "orders", "admin" },
	} {
		for _, name := range []string{"alice", "unknown"} {
			_, err := w.login(name, testPassword, change)
			refused(t, err, code)
		}
	}
	g, err := w.login("alice", testPassword, func(r *LoginRequest) { r.Audience, r.Scope = "orders", "read" })
	if err != nil || g.Scope != "read" {
		t.Fatalf("the login: got %+v, %v, want the scope read", g, err)
	}
	// The session covers every audience of the client, within the scope of the login.
	g, err = w.refresh(g.Refresh, func(r *TokenRequest) { r.Audience = "stock" })
	if err != nil || g.Scope != "read" {
		t.Errorf("the refresh for another audience: got %+v, %v, want the scope read", g, err)
	}
	_, err = w.refresh(g.Refresh, func(r *TokenRequest) { r.Audience = "elsewhere" })
	refused(t, err, "invalid_target")
	_, err = w.refresh(g.Refresh)
	refused(t, err, "invalid_target")
}

func TestEverySpellingOfANameIsOneAccount(t *testing.T) {
	w := newWorld(t)
	w.user("ﬁona", "7") // a ligature, which NFKC takes apart
	for _, spelling := range []string{"ﬁona", "fiona"} {
		if got := must[LoginCount](t)(w.LoginCount(t.Context(), spelling, netip.Addr{})); got != must[LoginCount](t)(w.LoginCount(t.Context(), "fiona", netip.Addr{})) {
			t.Errorf("%q counts against %v", spelling, got)
		}
	}
	if a, b := must[LoginCount](t)(w.LoginCount(t.Context(), "7", netip.Addr{})), must[LoginCount](t)(w.LoginCount(t.Context(), "fiona", netip.Addr{})); a == b {
		t.Errorf("an id counts as a name: %v", a)
	}
}

// One of them hashes the password again, so the others find another hash than the one they checked.
func TestParallelFirstLoginsOfAnImportedUserAllSucceed(t *testing.T) {
	w := newWorld(t)
	w.web()
	w.withPassword("alice", "7", "", djangoHash)
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			if _, err := w.login("alice", testPassword); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	w.wantAudited("user.rehash", 1)
}

// A client chooses the scopes of each login, so it has 2^50 choices.
func TestScopesOfALoginMakeNoRecords(t *testing.T) {
	w := newWorld(t)
	w.web(func(c *api.NewClient) {
		c.Audiences, c.Scopes = []string{"orders", "stock"}, []string{"count", "read", "write"}
	})
	w.user("alice", "7")
	for _, scope := range []string{"read", "write", "read write", "write read", ""} {
		g, err := w.StartSession(t.Context(), SessionRequest{User: "7", Client: "web", Endpoint: LoginBrowser, Audience: "orders", Scope: scope})
		if err != nil {
			t.Fatal(err)
		}
		want := strings.Join(record.Distinct(strings.Fields(scope)), " ")
		if scope == "" {
			want = "read write"
		}
		if g, err = w.refresh(g.Refresh, func(r *TokenRequest) { r.Audience = "orders" }); err != nil || g.Scope != want {
			t.Errorf("%q: %q %v", scope, g.Scope, err)
		}
	}
	if n := w.records("terms/"); n != 1 {
		t.Errorf("%d records of terms, want 1", n)
	}
}

// TestTheFormThatMatchesIsHashedAgain, and not the other one that was tried.
func TestTheFormThatMatchesIsHashedAgain(t *testing.T) {
	w := newWorld(t)
	w.web()
	const typed, trimmed = "\u00a0" + testPassword + "\t", testPassword
	for n, tt := range []struct{ stored, other string }{{typed, trimmed}, {trimmed, typed}} {
		digest, err := pbkdf2.Key(sha256.New, tt.stored, []byte("seasalt"), 1000, 32)
		if err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("user-%d", n)
		w.withPassword(name, name, "", refusal.Secret("pbkdf2_sha256$1000$seasalt$"+base64.StdEncoding.EncodeToString(digest)))
		both := func(r *LoginRequest) { r.Trimmed = trimmed }
		if _, err := w.login(name, typed, both); err != nil {
			t.Errorf("%q, tried in both forms: %v", tt.stored, err)
		}
		if u, err := w.User(t.Context(), name); err != nil || u.Scheme != "argon2id" {
			t.Errorf("the user is %+v, %v, want the scheme argon2id", u, err)
		}
		if _, err := w.login(name, refusal.Secret(tt.stored)); err != nil {
			t.Errorf("%q does not match its new hash: %v", tt.stored, err)
		}
		_, err = w.login(name, refusal.Secret(tt.other))
		refused(t, err, "invalid_credentials")
	}
}
