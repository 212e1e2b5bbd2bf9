package password

import (
	"crypto/md5"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"keymill/issuer/refusal"
)

// ErrUnusable means that the user exists and has no password that could match.
var ErrUnusable = errors.New("the hash says that the user has no password")

// CheckHash checks a hash of another system before it is stored, and returns its class. It refuses
// every hash that Verify would not accept, and returns ErrUnusable for the forms that Django
// writes where there is no password.
func CheckHash(stored string) (class string, err error) {
	if stored == "" || strings.HasPrefix(stored, "!") {
		return "", ErrUnusable
	}
	h, err := parseHash(stored)
	if err != nil {
		return "", err
	}
	return h.class(), nil
}

// Scheme returns the scheme of a stored hash: "argon2id", "pbkdf2_sha256", …, "none" for "", and
// "unknown" for a hash that CheckHash refuses.
func Scheme(stored string) string {
	if stored == "" {
		return "none"
	}
	h, err := parseHash(stored)
	if err != nil {
		return "unknown"
	}
	return h.scheme
}

// refuseForm refuses a hash that cannot be parsed. It names only schemes that it knows, because
// stored may be anything, even a password.
func refuseForm(stored string) error {
	if name := weakScheme(stored); name != "" {
		return refusal.New("invalid_request",
			"the password hash is %s, which protects no password: its passwords are guessed at billions a second; import the user without a password", name)
	}
	return refusal.New("invalid_request",
		"the password hash has an unsupported form; supported are $argon2id$, argon2$, pbkdf2_sha256$, pbkdf2_sha1$, bcrypt_sha256$, bcrypt$ and scrypt$")
}

// weakScheme returns Django's name of a hasher that is refused for all its hashes, or "".
func weakScheme(stored string) string {
	name, rest, form := strings.Cut(stored, "$")
	switch {
	case form && (name == "md5" || name == "sha1") && strings.HasPrefix(rest, "$"):
		return "unsalted_" + name
	case form && (name == "md5" || name == "sha1" || name == "crypt"):
		return name
	case form || strings.Trim(stored, "0123456789abcdefABCDEF") != "":
		return ""
	case len(stored) == hex.EncodedLen(md5.Size):
		return "unsalted_md5"
	case len(stored) == hex.EncodedLen(sha1.Size):
		return "unsalted_sha1"
	}
	return ""
}

// bcrypt's own base64 of 16 and 23 bytes.
const (
	bcryptSalt   = 22
	bcryptDigest = 31
)

// parseDjango reads the forms of django.contrib.auth.hashers.
func parseDjango(s string) (h storedHash, ok bool) {
	scheme, rest, _ := strings.Cut(s, "$")
	switch scheme {
	case "argon2":
		h, ok = parsePHC("$" + rest)
	case schemePBKDF2, schemePBKDF2SHA1:
		h, ok = parsePBKDF2(rest)
		h.scheme = scheme
	case schemeBcryptSHA256, schemeBcrypt:
		h, ok = parseBcrypt(rest)
		h.scheme = scheme
	case schemeScrypt:
		h, ok = parseScrypt(rest)
	}
	h.django = true
	return h, ok
}

func parsePBKDF2(s string) (h storedHash, ok bool) {
	part := strings.Split(s, "$")
	if len(part) != 3 || !validSalt(part[1]) {
		return h, false
	}
	rounds, errRounds := strconv.Atoi(part[0])
	digest, errDigest := base64.StdEncoding.DecodeString(part[2])
	h.rounds = rounds
	h.salt, h.digest = []byte(part[1]), digest
	return h, errRounds == nil && errDigest == nil
}

// validSalt reports whether s is visible ASCII, as all that Django generates.
func validSalt(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < 0x21 || r > 0x7e })
}

func parseScrypt(s string) (h storedHash, ok bool) {
	part := strings.Split(s, "$") // N, salt, r, p, digest
	if len(part) != 5 || !validSalt(part[1]) {
		return h, false
	}
	cost, errCost := strconv.Atoi(part[0])
	block, errBlock := strconv.Atoi(part[2])
	lanes, errLanes := strconv.Atoi(part[3])
	digest, errDigest := base64.StdEncoding.DecodeString(part[4])
	h.params = params{scheme: schemeScrypt, rounds: cost, block: block, lanes: lanes}
	h.salt, h.digest = []byte(part[1]), digest
	return h, errors.Join(errCost, errBlock, errLanes, errDigest) == nil
}

func parseBcrypt(s string) (h storedHash, ok bool) {
	part := strings.Split(s, "$") // "", "2b", "12", salt and digest
	if len(part) != 4 || len(part[3]) != bcryptSalt+bcryptDigest || strings.Trim(part[3], bcryptAlphabet) != "" {
		return h, false
	}
	cost, err := strconv.Atoi(part[2])
	h.rounds = cost
	h.version = part[1]
	h.salt, h.digest = []byte(part[3][:bcryptSalt]), []byte(part[3][bcryptSalt:])
	return h, err == nil && (h.version == "2a" || h.version == "2b" || h.version == "2y")
}

const bcryptAlphabet = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

func (h storedHash) djangoString() string {
	switch h.scheme {
	case schemePBKDF2, schemePBKDF2SHA1:
		return fmt.Sprintf("%s$%d$%s$%s", h.scheme, h.rounds, h.salt, base64.StdEncoding.EncodeToString(h.digest))
	case schemeBcryptSHA256, schemeBcrypt:
		return h.scheme + "$" + h.bcryptString()
	case schemeScrypt:
		return fmt.Sprintf("%s$%d$%s$%d$%d$%s", h.scheme, h.rounds, h.salt, h.block, h.lanes, base64.StdEncoding.EncodeToString(h.digest))
	}
	return "argon2" + h.phcString()
}

func (h storedHash) bcryptString() string {
	return fmt.Sprintf("$%s$%02d$%s%s", h.version, h.rounds, h.salt, h.digest)
}
