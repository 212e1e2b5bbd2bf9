package password

import (
	"bytes"
	"cmp"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"keymill/issuer/refusal"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
	"golang.org/x/crypto/scrypt"
	"golang.org/x/text/unicode/norm"
)

// The schemes, as classes and the admin API name them.
const (
	schemeArgon2id     = "argon2id"      // RFC 9106
	schemeArgon2i      = "argon2i"       // which Django wrote before 3.2
	schemePBKDF2       = "pbkdf2_sha256" // RFC 8018, section 5.2, with HMAC-SHA256
	schemePBKDF2SHA1   = "pbkdf2_sha1"   // the same with HMAC-SHA1
	schemeBcryptSHA256 = "bcrypt_sha256" // bcrypt over the hexadecimal SHA-256 of the password
	schemeBcrypt       = "bcrypt"        // bcrypt over the first 72 bytes of the password
	schemeScrypt       = "scrypt"        // RFC 7914
)

// A stored hash determines how much work its verification takes, and an imported one may be wrong
// or hostile. These are the limits. On an ordinary core the most expensive hash takes some seconds.
const (
	maxHashMemory     = 128 << 10 // KiB
	maxHashPasses     = 10
	maxHashLanes      = 16
	maxHashIterations = 5_000_000
	minHashCost       = 4 // of bcrypt
	maxHashCost       = 15
	maxScryptCost     = 1 << 20   // N
	maxScryptBlock    = 64        // r
	maxScryptLanes    = 16        // p
	maxScryptWork     = 512 << 10 // KiB of memory times p
	minDigest         = 16
	maxDigest         = 64 // what scrypt has in Django, and the longest that BLAKE2b makes
	minArgon2Salt     = 8  // RFC 9106, section 3.1
	maxHashSalt       = 64
	maxHashBytes      = 300 // as stored; nothing within the other limits is longer
)

// params are the scheme of a hash and its parameters, which determine its cost.
type params struct {
	scheme string
	memory int // Argon2: KiB
	rounds int // Argon2: passes; PBKDF2: iterations; bcrypt: their binary logarithm; scrypt: N
	lanes  int // Argon2: computed at once; scrypt: p, computed one after another
	block  int // scrypt: r
}

// policy has the params of new hashes: of the choices that OWASP calls equal, the second suits a
// small machine best.
var policy = params{scheme: schemeArgon2id, memory: 19456, rounds: 2, lanes: 1}

const (
	policySalt   = 16
	policyDigest = 32
)

// class returns r as one word without slashes or spaces, for keys and labels.
func (r params) class() string {
	switch r.scheme {
	case schemeArgon2id, schemeArgon2i:
		return fmt.Sprintf("%s-%d-%d-%d", r.scheme, r.memory, r.rounds, r.lanes)
	case schemeScrypt:
		return fmt.Sprintf("%s-%d-%d-%d", r.scheme, r.rounds, r.block, r.lanes)
	}
	return fmt.Sprintf("%s-%d", r.scheme, r.rounds)
}

func parseClass(class string) (params, error) {
	part := strings.Split(class, "-")
	var n [3]int
	for k := range min(len(part)-1, len(n)) {
		n[k], _ = strconv.Atoi(part[k+1])
	}
	r := params{scheme: part[0], memory: n[0], rounds: n[1], lanes: n[2]}
	switch {
	case part[0] == schemeScrypt:
		r = params{scheme: part[0], rounds: n[0], block: n[1], lanes: n[2]}
	case len(part) == 2:
		r = params{scheme: part[0], rounds: n[0]}
	}
	if r.class() != class {
		return params{}, fmt.Errorf("%q is not a class of password hashes", class)
	}
	return r, r.check()
}

// check refuses params that exceed the limits.
func (r params) check() error {
	switch r.scheme {
	case schemeArgon2id, schemeArgon2i:
		return cmp.Or(
			within("%d lanes", r.lanes, 1, maxHashLanes),
			within("%d KiB of memory", r.memory, 8*r.lanes, maxHashMemory), // RFC 9106, section 3.1
			within("%d passes", r.rounds, 1, maxHashPasses),
		)
	case schemePBKDF2, schemePBKDF2SHA1:
		return within("%d iterations", r.rounds, 1, maxHashIterations)
	case schemeBcryptSHA256, schemeBcrypt:
		return within("a cost of %d", r.rounds, minHashCost, maxHashCost)
	case schemeScrypt:
		return r.checkScrypt()
	}
	return refusal.New("invalid_request", "the scheme of the password hash is not supported")
}

func (r params) checkScrypt() error {
	err := cmp.Or(
		within("a cost of %d", r.rounds, 2, maxScryptCost),
		within("a block size of %d", r.block, 1, maxScryptBlock),
		within("a parallelization of %d", r.lanes, 1, maxScryptLanes),
	)
	if err != nil {
		return err
	}
	if r.rounds&(r.rounds-1) != 0 { // RFC 7914, section 6
		return refusal.New("invalid_request", "the hash has a cost of %d, which is not a power of two", r.rounds)
	}
	kib := r.rounds * r.block / 8
	return cmp.Or(
		within("%d KiB of memory", kib, 0, maxHashMemory),
		within("%d KiB of memory times its parallelization", kib*r.lanes, 0, maxScryptWork),
	)
}

// within refuses n if it is not between least and most. form says what n counts.
func within(form string, n, least, most int) error {
	if least == most && n != least {
		return refusal.New("invalid_request", "the hash has %s; only %d is allowed", fmt.Sprintf(form, n), least)
	}
	if n < least || n > most {
		return refusal.New("invalid_request", "the hash has %s; allowed are %d to %d", fmt.Sprintf(form, n), least, most)
	}
	return nil
}

// bytes returns the memory that one hash takes. All schemes but Argon2 and scrypt need almost none.
// scrypt has N blocks of 128·r bytes, one more for each of its p lanes, and two to work in.
func (r params) bytes() int64 {
	if r.scheme == schemeScrypt {
		return 128 * int64(r.block) * int64(r.rounds+r.lanes+2)
	}
	return int64(r.memory) << 10
}

// threads returns how many processors one hash uses at once. Only the lanes of Argon2 are goroutines.
func (r params) threads() int {
	if r.scheme == schemeScrypt {
		return 1
	}
	return max(1, r.lanes)
}

// A storedHash is one stored hash, parsed.
type storedHash struct {
	params
	django  bool   // in Django's form: of the password as typed
	version string // bcrypt: "2a", "2b" or "2y", the same for input without NUL bytes
	salt    []byte // bcrypt: as text
	digest  []byte // bcrypt: as text
}

// parseHash parses a hash. It refuses one that is malformed, that exceeds the limits, or that is
// not written exactly as String writes it.
func parseHash(stored string) (storedHash, error) {
	if len(stored) > maxHashBytes {
		return storedHash{}, refusal.New("invalid_request", "the hash is longer than %d bytes", maxHashBytes)
	}
	h, ok := parsePHC(stored)
	if !ok {
		h, ok = parseDjango(stored)
	}
	if !ok || h.String() != stored {
		return storedHash{}, refuseForm(stored)
	}
	return h, cmp.Or(h.check(), h.checkLengths())
}

// parsePHC reads Argon2's form: $argon2id$v=19$m=19456,t=2,p=1$salt$digest.
func parsePHC(s string) (h storedHash, ok bool) {
	part := strings.Split(s, "$")
	if len(part) != 6 || part[0] != "" || part[1] != schemeArgon2id && part[1] != schemeArgon2i {
		return h, false
	}
	h.scheme = part[1]
	if _, err := fmt.Sscanf(part[3], "m=%d,t=%d,p=%d", &h.memory, &h.rounds, &h.lanes); err != nil {
		return h, false
	}
	var errSalt, errDigest error
	h.salt, errSalt = base64.RawStdEncoding.DecodeString(part[4])
	h.digest, errDigest = base64.RawStdEncoding.DecodeString(part[5])
	return h, errSalt == nil && errDigest == nil
}

// String returns the stored form.
func (h storedHash) String() string {
	if h.django {
		return h.djangoString()
	}
	return h.phcString()
}

func (h storedHash) phcString() string {
	return fmt.Sprintf("$%s$v=%d$m=%d,t=%d,p=%d$%s$%s", h.scheme, argon2.Version, h.memory, h.rounds, h.lanes,
		base64.RawStdEncoding.EncodeToString(h.salt), base64.RawStdEncoding.EncodeToString(h.digest))
}

func (h storedHash) checkLengths() error {
	least := 1
	switch h.scheme {
	case schemeBcryptSHA256, schemeBcrypt:
		return nil // parseBcrypt takes no other lengths
	case schemeArgon2id, schemeArgon2i:
		least = minArgon2Salt
	}
	shortest, longest := h.digestBytes()
	return cmp.Or(
		within("%d bytes of salt", len(h.salt), least, maxHashSalt),
		within("%d bytes of digest", len(h.digest), shortest, longest),
	)
}

// digestBytes returns how many bytes a digest has. The length of one of PBKDF2 and scrypt is fixed:
// Django computes that many and compares all of them, so a password never matches another length. It
// would also need another time than its class, since PBKDF2 works again for each further block
// (RFC 8018, section 5.2). Argon2 fills a digest of any of its lengths with one call of BLAKE2b.
func (r params) digestBytes() (shortest, longest int) {
	switch r.scheme {
	case schemePBKDF2:
		return sha256.Size, sha256.Size
	case schemePBKDF2SHA1:
		return sha1.Size, sha1.Size
	case schemeScrypt:
		return maxDigest, maxDigest
	}
	return minDigest, maxDigest
}

// current reports whether Hash makes such hashes today.
func (h storedHash) current() bool {
	return !h.django && h.params == policy && len(h.salt) == policySalt && len(h.digest) == policyDigest
}

// matches reports whether password is the one of h. It does the same work for every password. Our
// own hashes are of the password in NFC, because one key gives different forms on different
// systems (RFC 8265, section 4.2). Django's are of the bytes as they were typed.
func (h storedHash) matches(password refusal.Secret) (bool, error) {
	typed := []byte(password)
	if !h.django {
		typed = norm.NFC.Bytes(typed)
	}
	switch h.scheme {
	case schemeBcryptSHA256:
		sum := sha256.Sum256(typed) // in hexadecimal, 64 bytes: all of them count
		return h.matchesBcrypt(hex.AppendEncode(nil, sum[:]))
	case schemeBcrypt:
		// bcrypt repeats a short password behind a NUL byte, so "a" and "a\x00a" have one hash.
		match, err := h.matchesBcrypt(typed)
		return match && !bytes.ContainsRune(typed, 0), err
	}
	digest, err := h.derive(typed, h.salt, len(h.digest))
	return subtle.ConstantTimeCompare(digest, h.digest) == 1, err
}

// maxBcryptInput is how many bytes of its input bcrypt reads. It ignores the rest.
const maxBcryptInput = 72

// ignores reports whether h says nothing about a part of password. Such a password is not hashed
// again when it matches: if the user mistyped that part, the right password would match no longer.
func (h storedHash) ignores(password refusal.Secret) bool {
	return h.scheme == schemeBcrypt && len(password) > maxBcryptInput
}

func (h storedHash) matchesBcrypt(input []byte) (bool, error) {
	err := bcrypt.CompareHashAndPassword([]byte(h.bcryptString()), input)
	if errors.Is(err, bcrypt.ErrMismatchedHashAndPassword) {
		return false, nil
	}
	return err == nil, err
}

func (r params) derive(typed, salt []byte, size int) ([]byte, error) {
	switch r.scheme {
	case schemeArgon2id:
		return argon2.IDKey(typed, salt, uint32(r.rounds), uint32(r.memory), uint8(r.lanes), uint32(size)), nil
	case schemeArgon2i:
		return argon2.Key(typed, salt, uint32(r.rounds), uint32(r.memory), uint8(r.lanes), uint32(size)), nil
	case schemeScrypt:
		return scrypt.Key(typed, salt, r.rounds, r.block, r.lanes, size)
	case schemePBKDF2SHA1:
		return pbkdf2.Key(sha1.New, string(typed), salt, r.rounds, size)
	}
	return pbkdf2.Key(sha256.New, string(typed), salt, r.rounds, size)
}

// newHash hashes a new password with policy.
func newHash(password refusal.Secret) (string, error) {
	salt := make([]byte, policySalt)
	rand.Read(salt)
	digest, err := policy.derive(norm.NFC.Bytes([]byte(password)), salt, policyDigest)
	return storedHash{params: policy, salt: salt, digest: digest}.String(), err
}

// decoy returns a hash with these params that no known password matches. It is verified if the user
// does not exist, and to measure a class. Its salt and its digest are the longest of the class, so no
// hash of the class takes more work.
func (r params) decoy() storedHash {
	_, longest := r.digestBytes()
	h := storedHash{params: r, salt: make([]byte, maxHashSalt), digest: make([]byte, longest)}
	if r.scheme == schemeBcryptSHA256 || r.scheme == schemeBcrypt {
		h.version = "2b"
		h.salt, h.digest = bytes.Repeat([]byte("."), bcryptSalt), bytes.Repeat([]byte("."), bcryptDigest)
	}
	return h
}
