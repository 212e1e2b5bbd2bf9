package password

import (
	"bytes"
	"encoding/json"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"keymill/issuer/refusal"

	"golang.org/x/text/unicode/norm"
)

// Passwords that other programs hash wrongly.
var (
	plainPassword = "correct horse battery staple"
	typedPassword = "Zoe\u0308 und 十五文字 ünter uns" // not in NFC
	longPasswordC = strings.Repeat("0123456789", 7) + "abc" + strings.Repeat("x", 27)
	longPasswordD = strings.Repeat("0123456789", 7) + "abd" + strings.Repeat("x", 27) // the 73rd byte
)

// djangoHashes are what Django 3.2 wrote, with its own parameters and with others. The first of scrypt
// is from the tests of Django 4.0; Python's hashlib.scrypt made the others as Django 5.1 calls it.
var djangoHashes = []struct{ class, password, stored string }{
	{"pbkdf2_sha256-260000", plainPassword, "pbkdf2_sha256$260000$qHQro0ON1fDe3dPbwqCuFJ$Xrk4HtgZ0f3rVFVmMJDl7wxjgu9mgKnaaYeaTKbevwM="},
	{"pbkdf2_sha256-1000", typedPassword, "pbkdf2_sha256$1000$seasalt$66D58GdSNziOCLUou6tWdn1bGVonTm+Mq1bk1UmsLPI="},
	{"pbkdf2_sha256-2000", longPasswordC, "pbkdf2_sha256$2000$mGcvGmp3KNWbz46XYOs84D$uFmWCQHIfsFPRNM87v72y3bK8UqdeBibfSqJsHb5dEY="},
	{"bcrypt_sha256-12", plainPassword, "bcrypt_sha256$$2b$12$b5nCD0ShgIUw8FpM6CEINeLG../e8iUGA8ios0fooc3KoU8K4DE2C"},
	{"bcrypt_sha256-5", typedPassword, "bcrypt_sha256$$2b$05$OxjBnpIehOMAyXM30Fh4MO0NfqTSpzjecPo0oUjXmAgRb.1z29vEC"},
	{"bcrypt_sha256-5", longPasswordC, "bcrypt_sha256$$2b$05$dpQQew2vXdvgId8XWRQN3.LeGTjEVOVEsm7CnrGMJL/Mx4O11VDr."},
	{"bcrypt_sha256-4", longPasswordD, "bcrypt_sha256$$2a$04$JlsoXuRzeVWPmNoH2s34MuCA70Jc5cNnmlesFGBz2SOvYiekJNw3W"},
	{"pbkdf2_sha1-260000", plainPassword, "pbkdf2_sha1$260000$N9WfaGyzUwUoFIVwsUoeYg$tbyiVyGf580X36vJlXIUekXDhas="},
	{"pbkdf2_sha1-1000", typedPassword, "pbkdf2_sha1$1000$seasalt$Z0I2b71+I1QEe39EmlkoeeqjGo0="},
	{"pbkdf2_sha1-2000", longPasswordC, "pbkdf2_sha1$2000$sofiSoxaNbRJHswSZX4Gds$JQ3hI07Lg8Kwee7SEZgnMg9vXFY="},
	{"bcrypt-12", plainPassword, "bcrypt$$2b$12$Zyf6wW2hrkL304E8348rmuVGuQyVIFxxYyJ1a03dXT48srKXPxt2a"},
	{"bcrypt-5", typedPassword, "bcrypt$$2b$05$SugOcKZ1R0rosibLAr4GROusUl1QS.2LidqY0lQb24.kXZqW6ozpq"},
	{"bcrypt-4", longPasswordC[:72], "bcrypt$$2a$04$aRZYWwIXAxufsxMVJMIng.x/6SYSNnZFRT69NeFEL8x20eMMqkgSm"},
	{"scrypt-16384-8-1", "lètmein", "scrypt$16384$seasalt$8$1$Qj3+9PPyRjSJIebHnG81TMjsqtaIGxNQG/aEB/NYafTJ7tibgfYz71m0ldQESkXFRkdVCBhhY8mx7rQwite/Pw=="},
	{"scrypt-16384-8-5", plainPassword, "scrypt$16384$t4XPvJPiyUGyvu7tovnb7z$8$5$3NgC+R2bIxtYzrf0DPqn/k45oJjPsLywgVcVVGP3ZEQodZL/nEvLj42MRESuV55iS/R/l807hQEnxUV5oVEIXQ=="},
	{"scrypt-1024-16-3", typedPassword, "scrypt$1024$seasalt$16$3$3/suSZyLsNlvvFb5yGfi4oVjgvLP4/xAsVndxTklFFX48Yb3pBwqRkCQDoEmp/uwlxdOeDDU7wC52mQvOxSH9A=="},
	{"scrypt-2-1-1", longPasswordC, "scrypt$2$DNuc49dZuBuDB5Py85kRFa$1$1$Lf1mWaYiHKoktf1yJHjdIBnZLvQAYTUJ2pcfID2y1etldyU8eLkzYlPGeNrIV6xLTQ31HlPhpfRrW5CPt+ncmQ=="},
	{"argon2id-102400-2-8", plainPassword, "argon2$argon2id$v=19$m=102400,t=2,p=8$N1M1TGEwTWphZ3dveDhOYWtYckFNdA$xm8OGf5XxvTOK3e7WYctKQ"},
	{"argon2id-1024-3-4", typedPassword, "argon2$argon2id$v=19$m=1024,t=3,p=4$M1hONFRYVXJ3UXFVZUhCaWdnQjBldw$gCoRpx3JD+t9ikiUjL7+RA"},
	{"argon2i-512-2-2", longPasswordC, "argon2$argon2i$v=19$m=512,t=2,p=2$c2tMbWpyT0hDZE1ETkRuNVVaWFFJTw$fEoWspPGiJ/FLi3hzmVdqQ"},
}

func TestHashesOfDjangoVerify(t *testing.T) {
	h := newHasher(1, hashBudget)
	wrong := map[string]string{ // none for the slow ones
		typedPassword: norm.NFC.String(typedPassword), longPasswordC: longPasswordD, longPasswordD: longPasswordC,
		longPasswordC[:72]: longPasswordC[:71] + "d",
	}
	for _, tt := range djangoHashes {
		class, err := CheckHash(tt.stored)
		if class != tt.class || err != nil {
			t.Errorf("%s: class %q, %v", tt.stored, class, err)
		}
		if scheme, _, _ := strings.Cut(tt.class, "-"); Scheme(tt.stored) != scheme {
			t.Errorf("%s: scheme %q", tt.stored, Scheme(tt.stored))
		}
		h.durations[class] = time.Millisecond // so that it is not measured
		for _, password := range []string{tt.password, wrong[tt.password]} {
			if password == "" {
				continue
			}
			match, weak, _, err := h.Verify(t.Context(), "", tt.stored, refusal.Secret(password))
			if want := password == tt.password; (match != "") != want || weak != want || err != nil {
				t.Errorf("%s, %q: match %v, weak %v, %v", tt.stored, password, match != "", weak, err)
			}
		}
	}
}

// TestBcryptIgnoresTheEndOfALongPassword: it matches as in Django. Its hash is kept, because a new one
// would be of an end that may be mistyped.
func TestBcryptIgnoresTheEndOfALongPassword(t *testing.T) {
	const (
		ofC     = "bcrypt$$2b$04$M0L3cpgUGjyu/9hGbf9dde1eRs1o/k01sHN.C1Ar3wUwTtYyzdZqC"
		ofC72   = "bcrypt$$2a$04$aRZYWwIXAxufsxMVJMIng.x/6SYSNnZFRT69NeFEL8x20eMMqkgSm"
		ofPlain = "bcrypt$$2b$04$yKZfiDiPPfK7RFQ5MEnGp.nVU.tdeM7o7MiV3q7L6lLtcOh66IQWO"
	)
	h := newHasher(1, hashBudget)
	for _, tt := range []struct {
		stored, shown string
		match, weak   bool
	}{
		{ofC, longPasswordC, true, false},
		{ofC, longPasswordC[:73], true, false},
		{ofC, longPasswordC[:72], true, true},
		{ofC, longPasswordC[:71], false, false},
		{ofC, longPasswordC[:71] + "d" + longPasswordC[72:], false, false},
		{ofC72, longPasswordC, true, false},
		{ofC72, longPasswordC[:72], true, true},
		{ofPlain, plainPassword + "\x00" + plainPassword, false, false}, // the same 72 bytes for bcrypt
	} {
		match, weak, _, err := h.Verify(t.Context(), "", tt.stored, refusal.Secret(tt.shown))
		if (match != "") != tt.match || weak != tt.weak || err != nil {
			t.Errorf("%q against %s: match %v, weak %v, %v", tt.shown, tt.stored, match != "", weak, err)
		}
	}
}

// TestWeakSchemesOfDjangoAreRefusedByName. An unknown form is not repeated: it may be a password.
func TestWeakSchemesOfDjangoAreRefusedByName(t *testing.T) {
	for stored, want := range map[string]string{
		"md5$GOYAwYNGQ5GXIdg1NkyLPk$cf1f9350d5d0958050c8f199e2878b44":          "is md5,",
		"sha1$9Iw7KHz8S86jUN7jTmOIFQ$acfc213f12ba4157884373461bfb04cc2089e825": "is sha1,",
		"crypt$$CH0VeG1rFMyS6":                           "is crypt,",
		"9cc2ae8a1ba7a93da39b46fc1019c481":               "is unsalted_md5,",
		"9CC2AE8A1BA7A93DA39B46FC1019C481":               "is unsalted_md5,",
		"md5$$9cc2ae8a1ba7a93da39b46fc1019c481":          "is unsalted_md5,",
		"sha1$$abf7aad6438836dbe526aa231abde2d0eef74d42": "is unsalted_sha1,",
		"abf7aad6438836dbe526aa231abde2d0eef74d42":       "is unsalted_sha1,",
		"hunter2$hunter2$hunter2":                        "unsupported form",
		"hunter2":                                        "unsupported form",
		"md5":                                            "unsupported form",
	} {
		_, err := CheckHash(stored)
		if got := refused(t, err, "invalid_request"); !strings.Contains(got, want) || strings.Contains(got, "hunter2") {
			t.Errorf("%s: %s", stored, got)
		}
	}
}

func TestUnusablePasswordsAreRecognised(t *testing.T) {
	for _, stored := range []string{"", "!", "!x7fKdPq2mN0rVbW3hJtYcLs8aZeGuQi1oT4nXy5w"} {
		if class, err := CheckHash(stored); !errors.Is(err, ErrUnusable) || class != "" {
			t.Errorf("%q: %q, %v", stored, class, err)
		}
	}
	if Scheme("") != "none" || Scheme("!x") != "unknown" {
		t.Errorf("schemes %q, %q", Scheme(""), Scheme("!x"))
	}
}

// djangoScript makes hashes with Django's own hashers, some with less work than usual,
// and checks the given hashes.
const djangoScript = `
import json, sys
from django.conf import settings
names = ("PBKDF2PasswordHasher", "Argon2PasswordHasher", "BCryptSHA256PasswordHasher",
         "PBKDF2SHA1PasswordHasher", "BCryptPasswordHasher")
settings.configure(PASSWORD_HASHERS=["django.contrib.auth.hashers." + n for n in names])
from django.contrib.auth import hashers
import argon2, bcrypt

class Argon2i(hashers.Argon2PasswordHasher):
    def params(self):
        return argon2.Parameters(type=argon2.low_level.Type.I, version=19, salt_len=16,
                                 hash_len=32, time_cost=2, memory_cost=512, parallelism=2)

pbkdf2, _, sha256, sha1, plain = (getattr(hashers, n)() for n in names)
asked = json.load(sys.stdin)
made = []
for p in asked["passwords"]:
    made += [[p, h] for h in (pbkdf2.encode(p, pbkdf2.salt(), 3000), Argon2i().encode(p, pbkdf2.salt()),
                              sha256.encode(p, bcrypt.gensalt(4)), sha1.encode(p, sha1.salt(), 3000))]
    if "\0" not in p and len(p) < 72:
        made.append([p, plain.encode(p, bcrypt.gensalt(4))])
p = asked["passwords"][0]
made += [[p, hashers.make_password(p, hasher=h)] for h in ("pbkdf2_sha256", "argon2", "bcrypt_sha256")]
results = [[hashers.check_password(p, "argon2" + h) for h in asked["hashes"]] for p in asked["passwords"]]
json.dump({"made": made, "results": results, "unusable": hashers.make_password(None)}, sys.stdout)
`

type djangoAsked struct {
	Passwords []string `json:"passwords"`
	Hashes    []string `json:"hashes"`
}

type djangoSaid struct {
	Made     [][2]string // password, hash
	Results  [][]bool    // of passwords, of hashes
	Unusable string
}

func askDjango(t *testing.T, asked djangoAsked) (said djangoSaid) {
	t.Helper()
	const python = "/usr/bin/python3"
	if err := exec.Command(python, "-I", "-c", "import django, argon2, bcrypt").Run(); err != nil {
		needDjango(t, err)
	}
	in, err := json.Marshal(asked)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), python, "-I", "-c", djangoScript)
	var complaints bytes.Buffer
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), &complaints
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, &complaints)
	}
	if err := json.Unmarshal(out, &said); err != nil {
		t.Fatal(err)
	}
	return said
}

func TestDjangoAndKeymillVerifyEachOthersHashes(t *testing.T) {
	h := newHasher(1, hashBudget)
	asked := djangoAsked{
		Passwords: []string{plainPassword, norm.NFC.String(typedPassword), typedPassword, longPasswordC, longPasswordD, "nul \x00 within", "n"},
	}
	for _, password := range asked.Passwords {
		stored, err := h.Hash(t.Context(), refusal.Secret(password))
		if err != nil {
			t.Fatal(err)
		}
		asked.Hashes = append(asked.Hashes, stored)
	}
	said := askDjango(t, asked)

	for n, made := range said.Made {
		class, err := CheckHash(made[1])
		if err != nil {
			t.Errorf("%s: %v", made[1], err)
		}
		h.durations[class] = time.Millisecond // so that it is not measured
		shown := asked.Passwords
		if n >= len(said.Made)-3 { // Django's own parameters are slow
			shown = shown[:1]
		}
		for _, password := range shown {
			match, weak, _, err := h.Verify(t.Context(), "", made[1], refusal.Secret(password))
			if want := password == made[0]; (match != "") != want || weak != want || err != nil {
				t.Errorf("%s of %q, %q: match %v, weak %v, %v", made[1], made[0], password, match != "", weak, err)
			}
		}
	}
	for n, results := range said.Results { // Django compares bytes and does not normalize
		for k, result := range results {
			if want := asked.Passwords[n] == norm.NFC.String(asked.Passwords[k]); result != want {
				t.Errorf("Django: %q against our hash of %q: %v", asked.Passwords[n], asked.Passwords[k], result)
			}
		}
	}
	if _, err := CheckHash(said.Unusable); !errors.Is(err, ErrUnusable) {
		t.Errorf("%q: %v", said.Unusable, err)
	}
}

// lengthsScript says which of the hashes of one password Django verifies. All are right but for the
// length of their digest. Django has scrypt since 4.0.
const lengthsScript = `
import base64, hashlib, json, sys
from django.conf import settings
settings.configure(PASSWORD_HASHERS=["django.contrib.auth.hashers.PBKDF2PasswordHasher"])
from django.contrib.auth import hashers
names = ("PBKDF2PasswordHasher", "PBKDF2SHA1PasswordHasher", "ScryptPasswordHasher")
known = {c.algorithm: c() for c in (getattr(hashers, n, None) for n in names) if c}
p, out = "correct horse", {}
for size in (16, 19, 20, 21, 31, 32, 33, 40, 63, 64):
    for form, digest in (
        ("pbkdf2_sha256$7$salt$", hashlib.pbkdf2_hmac("sha256", p.encode(), b"salt", 7, size)),
        ("pbkdf2_sha1$7$salt$", hashlib.pbkdf2_hmac("sha1", p.encode(), b"salt", 7, size)),
        ("scrypt$16$salt$8$1$", hashlib.scrypt(p.encode(), salt=b"salt", n=16, r=8, p=1, dklen=size)),
    ):
        stored = form + base64.b64encode(digest).decode("ascii")
        if form.split("$")[0] in known:
            out[stored] = known[form.split("$")[0]].verify(p, stored)
json.dump(out, sys.stdout)
`

// TestDjangoVerifiesNoOtherLength: what is refused at the import for its length lets no user in at
// Django either.
func TestDjangoVerifiesNoOtherLength(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "/usr/bin/python3", "-I", "-c", lengthsScript).Output()
	if err != nil {
		needDjango(t, err)
	}
	var verifies map[string]bool
	if err := json.Unmarshal(out, &verifies); err != nil {
		t.Fatal(err)
	}
	matched := 0
	for stored, want := range verifies {
		h, err := parseHash(stored)
		match := false
		if err == nil {
			match, err = h.matches("correct horse")
		}
		if match != want || match != (err == nil) {
			t.Errorf("%s: Django says %v, we say %v, %v", stored, want, match, err)
		}
		if match {
			matched++
		}
	}
	if matched*10 != len(verifies) || matched < 2 {
		t.Errorf("Django verified %d of %d hashes", matched, len(verifies))
	}
}
