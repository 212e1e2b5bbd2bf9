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

// djangoHashes are what Django 3.2 wrote, with its own parameters and with others.
var djangoHashes = []struct{ class, password, stored string }{
	{"pbkdf2_sha256-260000", plainPassword, "pbkdf2_sha256$260000$qHQro0ON1fDe3dPbwqCuFJ$Xrk4HtgZ0f3rVFVmMJDl7wxjgu9mgKnaaYeaTKbevwM="},
	{"pbkdf2_sha256-1000", typedPassword, "pbkdf2_sha256$1000$seasalt$66D58GdSNziOCLUou6tWdn1bGVonTm+Mq1bk1UmsLPI="},
	{"pbkdf2_sha256-2000", longPasswordC, "pbkdf2_sha256$2000$mGcvGmp3KNWbz46XYOs84D$uFmWCQHIfsFPRNM87v72y3bK8UqdeBibfSqJsHb5dEY="},
	{"bcrypt_sha256-12", plainPassword, "bcrypt_sha256$$2b$12$b5nCD0ShgIUw8FpM6CEINeLG../e8iUGA8ios0fooc3KoU8K4DE2C"},
	{"bcrypt_sha256-5", typedPassword, "bcrypt_sha256$$2b$05$OxjBnpIehOMAyXM30Fh4MO0NfqTSpzjecPo0oUjXmAgRb.1z29vEC"},
	{"bcrypt_sha256-5", longPasswordC, "bcrypt_sha256$$2b$05$dpQQew2vXdvgId8XWRQN3.LeGTjEVOVEsm7CnrGMJL/Mx4O11VDr."},
	{"bcrypt_sha256-4", longPasswordD, "bcrypt_sha256$$2a$04$JlsoXuRzeVWPmNoH2s34MuCA70Jc5cNnmlesFGBz2SOvYiekJNw3W"},
	{"argon2id-102400-2-8", plainPassword, "argon2$argon2id$v=19$m=102400,t=2,p=8$N1M1TGEwTWphZ3dveDhOYWtYckFNdA$xm8OGf5XxvTOK3e7WYctKQ"},
	{"argon2id-1024-3-4", typedPassword, "argon2$argon2id$v=19$m=1024,t=3,p=4$M1hONFRYVXJ3UXFVZUhCaWdnQjBldw$gCoRpx3JD+t9ikiUjL7+RA"},
	{"argon2i-512-2-2", longPasswordC, "argon2$argon2i$v=19$m=512,t=2,p=2$c2tMbWpyT0hDZE1ETkRuNVVaWFFJTw$fEoWspPGiJ/FLi3hzmVdqQ"},
}

func TestHashesOfDjangoVerify(t *testing.T) {
	h := newHasher(1, hashBudget)
	wrong := map[string]string{ // none for the slow ones
		typedPassword: norm.NFC.String(typedPassword), longPasswordC: longPasswordD, longPasswordD: longPasswordC,
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
			match, weak, _, err := h.Verify(t.Context(), tt.stored, refusal.Secret(password))
			if want := password == tt.password; match != want || weak != want || err != nil {
				t.Errorf("%s, %q: match %v, weak %v, %v", tt.stored, password, match, weak, err)
			}
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
names = ("PBKDF2PasswordHasher", "Argon2PasswordHasher", "BCryptSHA256PasswordHasher")
settings.configure(PASSWORD_HASHERS=["django.contrib.auth.hashers." + n for n in names])
from django.contrib.auth import hashers
import argon2, bcrypt

class Argon2i(hashers.Argon2PasswordHasher):
    def params(self):
        return argon2.Parameters(type=argon2.low_level.Type.I, version=19, salt_len=16,
                                 hash_len=32, time_cost=2, memory_cost=512, parallelism=2)

pbkdf2, _, sha256 = (getattr(hashers, n)() for n in names)
asked = json.load(sys.stdin)
made = []
for p in asked["passwords"]:
    made += [[p, h] for h in (pbkdf2.encode(p, pbkdf2.salt(), 3000), Argon2i().encode(p, pbkdf2.salt()),
                              sha256.encode(p, bcrypt.gensalt(4)))]
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
			match, weak, _, err := h.Verify(t.Context(), made[1], refusal.Secret(password))
			if want := password == made[0]; match != want || weak != want || err != nil {
				t.Errorf("%s of %q, %q: match %v, weak %v, %v", made[1], made[0], password, match, weak, err)
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
