package password

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
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
	case schemePBKDF2:
		h, ok = parsePBKDF2(rest)
	case schemeBcrypt:
		h, ok = parseBcrypt(rest)
	}
	h.django = true
	return h, ok
}

func parsePBKDF2(s string) (h storedHash, ok bool) {
	part := strings.Split(s, "$")
	if len(part) != 3 || strings.ContainsFunc(part[1], func(r rune) bool { return r < 0x21 || r > 0x7e }) {
		return h, false
	}
	rounds, errRounds := strconv.Atoi(part[0])
	digest, errDigest := base64.StdEncoding.DecodeString(part[2])
	h.params = params{scheme: schemePBKDF2, rounds: rounds}
	h.salt, h.digest = []byte(part[1]), digest
	return h, errRounds == nil && errDigest == nil
}

func parseBcrypt(s string) (h storedHash, ok bool) {
	part := strings.Split(s, "$") // "", "2b", "12", salt and digest
	if len(part) != 4 || len(part[3]) != bcryptSalt+bcryptDigest || strings.Trim(part[3], bcryptAlphabet) != "" {
		return h, false
	}
	cost, err := strconv.Atoi(part[2])
	h.params = params{scheme: schemeBcrypt, rounds: cost}
	h.version = part[1]
	h.salt, h.digest = []byte(part[3][:bcryptSalt]), []byte(part[3][bcryptSalt:])
	return h, err == nil && (h.version == "2a" || h.version == "2b" || h.version == "2y")
}

const bcryptAlphabet = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

func (h storedHash) djangoString() string {
	switch h.scheme {
	case schemePBKDF2:
		return fmt.Sprintf("%s$%d$%s$%s", h.scheme, h.rounds, h.salt, base64.StdEncoding.EncodeToString(h.digest))
	case schemeBcrypt:
		return h.scheme + "$" + h.bcryptString()
	}
	return "argon2" + h.phcString()
}

func (h storedHash) bcryptString() string {
	return fmt.Sprintf("$%s$%02d$%s%s", h.version, h.rounds, h.salt, h.digest)
}
