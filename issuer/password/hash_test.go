package password

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"keymill/issuer/refusal"

	"golang.org/x/crypto/blake2b"
	"golang.org/x/text/unicode/norm"
)

const (
	testSalt   = "c2FsdHNhbHRzYWx0c2FsdA" // 16 bytes
	testDigest = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
	sha1Digest = "AAECAwQFBgcICQoLDA0ODxAREhM=" // 20 bytes
)

// R97.
func TestHashesThatCostTooMuchAreRefused(t *testing.T) {
	phc := func(parameters string) string {
		return "$argon2id$v=19$" + parameters + "$" + testSalt + "$" + testDigest
	}
	salted := func(n int) string {
		return "pbkdf2_sha256$1000$" + strings.Repeat("s", n) + "$" + testDigest + "="
	}
	bcrypted := func(s string) string { return "bcrypt_sha256$" + s + strings.Repeat("a", 53) }
	scryptDigest := base64.StdEncoding.EncodeToString(make([]byte, 64))
	scrypted := func(n, r, p string) string {
		return "scrypt$" + n + "$seasalt$" + r + "$" + p + "$" + scryptDigest
	}
	for _, tt := range []struct{ stored, class string }{ // class "": refused
		{phc("m=19456,t=2,p=1"), "argon2id-19456-2-1"},
		{"argon2" + phc("m=19456,t=2,p=1"), "argon2id-19456-2-1"},
		{phc("m=131072,t=10,p=16"), "argon2id-131072-10-16"},
		{phc("m=8,t=1,p=1"), "argon2id-8-1-1"},
		{phc("m=131073,t=1,p=1"), ""},
		{phc("m=4294967295,t=1,p=1"), ""},
		{phc("m=4294967304,t=1,p=1"), ""}, // 8 in 32 bits
		{phc("m=18446744073709551624,t=1,p=1"), ""},
		{phc("m=19456,t=11,p=1"), ""},
		{phc("m=19456,t=0,p=1"), ""},
		{phc("m=19456,t=2,p=17"), ""},
		{phc("m=19456,t=2,p=257"), ""}, // 1 in 8 bits
		{phc("m=19456,t=2,p=0"), ""},
		{phc("m=7,t=2,p=1"), ""},
		{phc("m=63,t=2,p=8"), ""},
		{phc("m=-8,t=2,p=1"), ""},
		{phc("m=+19456,t=2,p=1"), ""},
		{phc("m=019456,t=2,p=1"), ""},
		{phc("m= 19456,t=2,p=1"), ""},
		{phc("t=2,m=19456,p=1"), ""},
		{phc("m=19456,t=2,p=1,keyid=x"), ""},
		{phc("m=19456,t=2"), ""},
		{strings.Replace(phc("m=19456,t=2,p=1"), "v=19", "v=16", 1), ""},
		{strings.Replace(phc("m=19456,t=2,p=1"), "v=19$", "", 1), ""},
		{strings.Replace(phc("m=19456,t=2,p=1"), "argon2id", "argon2d", 1), ""},
		{phc("m=19456,t=2,p=1") + "$", ""},
		{phc("m=19456,t=2,p=1") + "=", ""},
		{phc("m=19456,t=2,p=1") + "\n", ""},
		{phc("m=19456,t=2,p=1") + "AA", ""}, // digest of other than whole bytes
		{"$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$" + testDigest, ""},
		{"$argon2id$v=19$m=19456,t=2,p=1$" + testSalt + "$AAECAw", ""},
		{"$argon2id$v=19$m=19456,t=2,p=1$" + testSalt + "$" + strings.Repeat("AAAA", 22), ""},
		{"$argon2id$v=19$m=19456,t=2,p=1$" + strings.Repeat("AAAA", 22) + "$" + testDigest, ""},
		{"$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdB$" + testDigest, ""}, // bits beyond the last byte

		{salted(1), "pbkdf2_sha256-1000"},
		{salted(64), "pbkdf2_sha256-1000"},
		{salted(0), ""},
		{salted(65), ""},
		{salted(1 << 20), ""},
		{"pbkdf2_sha256$5000000$s$" + testDigest + "=", "pbkdf2_sha256-5000000"},
		{"pbkdf2_sha256$5000001$s$" + testDigest + "=", ""},
		{"pbkdf2_sha256$0$s$" + testDigest + "=", ""},
		{"pbkdf2_sha256$-1$s$" + testDigest + "=", ""},
		{"pbkdf2_sha256$1000$s s$" + testDigest + "=", ""},
		{"pbkdf2_sha256$1000$s$" + testDigest, ""},
		{"pbkdf2_sha256$1000$s$", ""},
		{"pbkdf2_sha256$1000$s$" + strings.Repeat("AAAA", 22), ""},
		{"pbkdf2_sha1$1000$s$" + sha1Digest, "pbkdf2_sha1-1000"},
		{"pbkdf2_sha1$5000000$s$" + sha1Digest, "pbkdf2_sha1-5000000"},
		{"pbkdf2_sha1$5000001$s$" + sha1Digest, ""},
		{"pbkdf2_sha1$1000$s s$" + sha1Digest, ""},
		{"pbkdf2_sha512$1000$s$" + testDigest + "=", ""},

		{scrypted("16384", "8", "5"), "scrypt-16384-8-5"},
		{scrypted("2", "1", "1"), "scrypt-2-1-1"},
		{scrypted("131072", "8", "1"), "scrypt-131072-8-1"}, // 128 MiB
		{scrypted("16384", "64", "1"), "scrypt-16384-64-1"},
		{scrypted("131072", "8", "4"), "scrypt-131072-8-4"},
		{scrypted("32768", "8", "16"), "scrypt-32768-8-16"},
		{scrypted("131072", "8", "5"), ""},
		{scrypted("32768", "8", "17"), ""},
		{scrypted("262144", "8", "1"), ""},
		{scrypted("1048576", "2", "1"), ""},
		{scrypted("2097152", "1", "1"), ""},
		{scrypted("131072", "9", "1"), ""},
		{scrypted("16384", "65", "1"), ""},
		{scrypted("9223372036854775807", "8", "1"), ""},
		{scrypted("2305843009213693952", "8", "1"), ""}, // 0 in 64 bits, times 8
		{scrypted("18446744073709551632", "8", "1"), ""},
		{scrypted("16383", "8", "1"), ""},
		{scrypted("1", "8", "1"), ""},
		{scrypted("0", "8", "1"), ""},
		{scrypted("-2", "8", "1"), ""},
		{scrypted("16384", "0", "1"), ""},
		{scrypted("16384", "8", "0"), ""},
		{scrypted("016384", "8", "1"), ""},
		{scrypted("16384", "8", "1") + "$", ""},
		{strings.TrimSuffix(scrypted("16384", "8", "1"), "="), ""},
		{"scrypt$16384$$8$1$" + scryptDigest, ""},
		{"scrypt$16384$s s$8$1$" + scryptDigest, ""},
		{"scrypt$16384$8$1$" + testSalt + "$" + scryptDigest, ""}, // not Django's order
		{"scrypt$16384$" + strings.Repeat("s", 65) + "$8$1$" + scryptDigest, ""},
		{"scrypt$16384$s$8$1$" + strings.Repeat("AAAA", 22), ""},
		{"scrypt$16384$s$8$1$AAAA", ""},

		{bcrypted("$2b$12$"), "bcrypt_sha256-12"},
		{bcrypted("$2y$04$"), "bcrypt_sha256-4"},
		{bcrypted("$2b$15$"), "bcrypt_sha256-15"},
		{bcrypted("$2b$16$"), ""},
		{bcrypted("$2b$31$"), ""},
		{bcrypted("$2b$03$"), ""},
		{bcrypted("$2b$4$"), ""},
		{bcrypted("$2x$12$"), ""},
		{bcrypted("$2b$12$") + "a", ""},
		{bcrypted("$2b$12$")[:70], ""},
		{strings.Replace(bcrypted("$2b$12$"), "aaaa", "a~aa", 1), ""},
		{"bcrypt$$2b$12$" + strings.Repeat("a", 53), "bcrypt-12"},
		{"bcrypt$$2b$15$" + strings.Repeat("a", 53), "bcrypt-15"},
		{"bcrypt$$2b$16$" + strings.Repeat("a", 53), ""},
		{"bcrypt$$2b$03$" + strings.Repeat("a", 53), ""},
		{"bcrypt$2b$12$" + strings.Repeat("a", 53), ""},

		{"md5$salt$0123456789abcdef", ""},
		{"0123456789abcdef0123456789abcdef", ""},
		{"$2b$12$" + strings.Repeat("a", 53), ""},
		{"correct horse battery staple", ""},
		{"$$$$$", ""},
	} {
		class, err := CheckHash(tt.stored)
		if tt.class != "" && err != nil || class != tt.class {
			t.Errorf("%.120q: class %q, %v", tt.stored, class, err)
			continue
		}
		if tt.class == "" {
			refused(t, err, "invalid_request")
		} else if r, err := parseClass(class); err != nil || r.class() != class {
			t.Errorf("%q is read as %q, %v", class, r.class(), err)
		}
	}
}

func TestAClassAboveTheLimitsIsRefused(t *testing.T) {
	for _, class := range []string{
		"", "-", "argon2id", "argon2id-19456-2", "argon2id-19456-2-1-1", "argon2id-131073-2-1", "argon2id-019456-2-1",
		"argon2id-19456-2-0", "pbkdf2_sha256", "pbkdf2_sha256-", "pbkdf2_sha256-5000001", "pbkdf2_sha256-1-0-0",
		"bcrypt_sha256-16", "bcrypt_sha256-04", "bcrypt-16", "pbkdf2_sha1-5000001", "scrypt-16384",
		"scrypt-16384-8", "scrypt-16384-8-5-1", "scrypt-262144-8-1", "scrypt-131072-8-5", "scrypt-016384-8-1", "scrypt-16383-8-1", "md5-1", "none",
	} {
		if r, err := parseClass(class); err == nil {
			t.Errorf("%q is read as %+v", class, r)
		}
	}
}

// The same password from another keyboard matches. One with any other byte does not, also if it is the
// 73rd or the last of 4096.
//
// R96.
func TestOurHashesAreOfThePasswordInNFC(t *testing.T) {
	h := newHasher(1, hashBudget)
	longest := strings.Repeat("0123456789abcde\u00eb", MaxBytes/17)
	for _, tt := range []struct {
		password, shown string
		want            bool
	}{
		{typedPassword, typedPassword, true},
		{typedPassword, norm.NFC.String(typedPassword), true},
		{norm.NFC.String(typedPassword), typedPassword, true},
		{typedPassword, norm.NFKC.String(typedPassword) + " ", false},
		{"ﬁfteen letters, no less", "fifteen letters, no less", false}, // NFC, not NFKC
		{plainPassword, "Correct horse battery staple", false},
		{plainPassword, plainPassword + "\x00", false},
		{longPasswordC, longPasswordC, true},
		{longPasswordC, longPasswordD, false},
		{longest, longest, true},
		{longest, longest[:len(longest)-2] + "e", false},
		{plainPassword, "", false},
	} {
		stored, err := h.Hash(t.Context(), refusal.Secret(tt.password))
		if err != nil {
			t.Fatal(err)
		}
		match, weak, _, err := h.Verify(t.Context(), "", stored, refusal.Secret(tt.shown))
		if (match != "") != tt.want || weak || err != nil {
			t.Errorf("%.40q, %.40q: match %v, weak %v, %v", tt.password, tt.shown, match != "", weak, err)
		}
	}
}

// R97.
func TestOurHashesAreArgon2idAsThePolicySays(t *testing.T) {
	h := newHasher(1, hashBudget)
	one, err := h.Hash(t.Context(), refusal.Secret(plainPassword))
	if err != nil {
		t.Fatal(err)
	}
	other, err := h.Hash(t.Context(), refusal.Secret(plainPassword))
	if err != nil {
		t.Fatal(err)
	}
	if one == other {
		t.Error("two hashes have the same salt")
	}
	if !strings.HasPrefix(one, "$argon2id$v=19$m=19456,t=2,p=1$") || Scheme(one) != "argon2id" {
		t.Errorf("hash %q", one)
	}
	if class, err := CheckHash(one); class != "argon2id-19456-2-1" || err != nil {
		t.Errorf("class %q, %v", class, err)
	}
}

// Verify reports weak for every hash that Hash would not make today, and only if it matches.
//
// R97.
func TestHashesOtherThanThePolicyAreWeak(t *testing.T) {
	h := newHasher(1, hashBudget)
	for _, tt := range []struct {
		name         string
		params       params
		salt, digest int
		django       bool
		weak         bool
	}{
		{"policy", policy, 16, 32, false, false},
		{"written by Django", policy, 16, 32, true, true},
		{"less memory", params{scheme: schemeArgon2id, memory: 19448, rounds: 2, lanes: 1}, 16, 32, false, true},
		{"more of everything", params{scheme: schemeArgon2id, memory: 65536, rounds: 3, lanes: 4}, 16, 32, false, true},
		{"argon2i", params{scheme: schemeArgon2i, memory: 19456, rounds: 2, lanes: 1}, 16, 32, false, true},
		{"short salt", policy, 8, 32, false, true},
		{"short digest", policy, 16, 16, false, true},
	} {
		salt := []byte(strings.Repeat("s", tt.salt))
		digest, err := tt.params.derive([]byte(plainPassword), salt, tt.digest)
		if err != nil {
			t.Fatal(err)
		}
		stored := storedHash{params: tt.params, django: tt.django, salt: salt, digest: digest}.String()
		match, weak, _, err := h.Verify(t.Context(), "", stored, refusal.Secret(plainPassword))
		if match != refusal.Secret(plainPassword) || weak != tt.weak || err != nil {
			t.Errorf("%s: match %v, weak %v, %v", tt.name, match != "", weak, err)
		}
		if match, weak, _, _ = h.Verify(t.Context(), "", stored, "wrong"); match != "" || weak {
			t.Errorf("%s, wrong password: match %v, weak %v", tt.name, match != "", weak)
		}
	}
}

// TestHashesOfOneClassTakeTheSameWork: the class of a hash says how long a failed login takes. So all hashes
// of a class have the same parameters, and a length that changes the work is refused at the import.
//
// R98.
func TestHashesOfOneClassTakeTheSameWork(t *testing.T) {
	fixed := map[string]int{schemePBKDF2: 32, schemePBKDF2SHA1: 20, schemeScrypt: 64}
	for _, class := range []string{"pbkdf2_sha256-3", "pbkdf2_sha1-3", "scrypt-2-1-1", "scrypt-16-8-5", "argon2id-64-1-1", "argon2i-512-2-2"} {
		r, err := parseClass(class)
		if err != nil {
			t.Fatal(err)
		}
		for size := 1; size <= 80; size++ {
			accepted := 16 <= size && size <= 64
			if fixed[r.scheme] > 0 {
				accepted = size == fixed[r.scheme]
			}
			h := storedHash{params: r, django: true, salt: []byte("saltsaltsalt"), digest: make([]byte, size)}
			got, err := CheckHash(h.String())
			if accepted != (err == nil) || accepted && got != class {
				t.Errorf("%s with a digest of %d bytes: class %q, %v", class, size, got, err)
			}
			if !accepted && (err == nil || !strings.Contains(err.Error(), fmt.Sprintf("the hash has %d bytes of digest", size))) {
				t.Errorf("%s with a digest of %d bytes: the message is %v", class, size, err)
			}
		}
		decoy := r.decoy()
		if _, err := CheckHash(storedHash{params: r, django: true, salt: bytes.Repeat([]byte("s"), len(decoy.salt)), digest: decoy.digest}.String()); err != nil {
			t.Errorf("%s: the decoy is not a hash of the class: %v", class, err)
		}
		if _, longest := r.digestBytes(); len(decoy.salt) != maxHashSalt || len(decoy.digest) != longest {
			t.Errorf("%s is measured with %d bytes of salt and %d of digest", class, len(decoy.salt), len(decoy.digest))
		}
	}
}

// TestAnArgon2DigestIsOneBlock: one call of BLAKE2b makes it (RFC 9106, section 3.3), so the length does
// not change the work.
func TestAnArgon2DigestIsOneBlock(t *testing.T) {
	if _, longest := policy.digestBytes(); longest > blake2b.Size {
		t.Errorf("a digest of %d bytes needs several calls of BLAKE2b", longest)
	}
}

func TestNoPasswordMatchesAMissingHash(t *testing.T) {
	h := newHasher(1, hashBudget)
	for _, password := range []refusal.Secret{"", "!", refusal.Secret(plainPassword), "how long does this take?"} {
		if match, weak, began, err := h.Verify(t.Context(), "", "", password); match != "" || weak || err != nil || began.IsZero() {
			t.Errorf("match %v, weak %v, began %v, %v", match != "", weak, began, err)
		}
	}
	if match, _, began, err := h.Verify(t.Context(), "", "!unusable", ""); match != "" || err != nil || began.IsZero() {
		t.Errorf("a hash that cannot be stored: match %v, %v", match != "", err)
	}
}

func FuzzCheckHash(f *testing.F) {
	for _, known := range djangoHashes {
		f.Add(known.stored)
	}
	f.Add("$argon2id$v=19$m=19456,t=2,p=1$" + testSalt + "$" + testDigest)
	f.Add("!")
	f.Fuzz(func(t *testing.T, stored string) {
		class, err := CheckHash(stored)
		if err != nil {
			return
		}
		h, err := parseHash(stored)
		if err != nil || h.String() != stored {
			t.Fatalf("%q is read as %q, %v", stored, h, err)
		}
		dear := h.memory > 128<<10 || h.lanes > 16 || len(h.salt) > 64 || len(h.digest) > 64 || len(h.salt) == 0
		switch h.scheme {
		case schemeScrypt:
			dear = dear || 128*h.rounds*h.block > 128<<20 || 128*h.rounds*h.block*h.lanes > 512<<20 || len(h.digest) != 64
		case schemeBcryptSHA256, schemeBcrypt:
			dear = dear || h.rounds > 15 || len(h.salt) != 22 || len(h.digest) != 31
		case schemePBKDF2, schemePBKDF2SHA1:
			dear = dear || h.rounds > 5_000_000 || len(h.digest) != map[string]int{schemePBKDF2: 32, schemePBKDF2SHA1: 20}[h.scheme]
		default:
			dear = dear || h.rounds > 10 || len(h.digest) < 16
		}
		if r, err := parseClass(class); dear || err != nil || r != h.params || strings.ContainsAny(class, "/ \n") {
			t.Fatalf("%q is accepted as %+v, class %q, %v", stored, h, class, err)
		}
		if h.memory > 64 || h.rounds > 5 {
			return // no time for that
		}
		if _, err := h.matches("password"); err != nil {
			t.Fatalf("%q: %v", stored, err)
		}
	})
}
