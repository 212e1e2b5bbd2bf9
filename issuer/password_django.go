package issuer

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// errUnusable: the user exists and has no password that could match.
var errUnusable = errors.New("the hash says that the user has no password")

// checkHash examines a hash from elsewhere before it is stored, and returns its class:
// the scheme and its parameters, such as "argon2id-19456-2-1", "pbkdf2_sha256-600000" or
// "bcrypt_sha256-12". It refuses what verify would not take, and answers errUnusable for
// what Django writes where there is no password.
func checkHash(stored string) (class string, err error) {
	if stored == "" || strings.HasPrefix(stored, "!") {
		return "", errUnusable
	}
	h, err := parseHash(stored)
	if err != nil {
		return "", err
	}
	return h.class(), nil
}

// schemeOf names the scheme of a stored hash: "argon2id", "pbkdf2_sha256", …, "none" for
// "", and "unknown" for what checkHash refuses.
func schemeOf(stored string) string {
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

// parseDjango reads the forms of django.contrib.auth.hashers:
//
//	argon2$argon2id$v=19$m=102400,t=2,p=8$<salt>$<digest>
//	pbkdf2_sha256$600000$<salt, as it is>$<digest>
//	bcrypt_sha256$$2b$12$<salt><digest>
func parseDjango(s string) (h hashed, ok bool) {
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

func parsePBKDF2(s string) (h hashed, ok bool) {
	part := strings.Split(s, "$")
	if len(part) != 3 || !isVisible(part[1]) {
		return h, false
	}
	rounds, errRounds := strconv.Atoi(part[0])
	digest, errDigest := base64.StdEncoding.DecodeString(part[2])
	h.recipe = recipe{scheme: schemePBKDF2, rounds: rounds}
	h.salt, h.digest = []byte(part[1]), digest
	return h, errRounds == nil && errDigest == nil
}

func parseBcrypt(s string) (h hashed, ok bool) {
	part := strings.Split(s, "$") // "", "2b", "12", salt and digest
	if len(part) != 4 || len(part[3]) != bcryptSalt+bcryptDigest || strings.Trim(part[3], bcryptAlphabet) != "" {
		return h, false
	}
	cost, err := strconv.Atoi(part[2])
	h.recipe = recipe{scheme: schemeBcrypt, rounds: cost}
	h.version = part[1]
	h.salt, h.digest = []byte(part[3][:bcryptSalt]), []byte(part[3][bcryptSalt:])
	return h, err == nil && (h.version == "2a" || h.version == "2b" || h.version == "2y")
}

const bcryptAlphabet = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

func (h hashed) djangoString() string {
	switch h.scheme {
	case schemePBKDF2:
		return fmt.Sprintf("%s$%d$%s$%s", h.scheme, h.rounds, h.salt, base64.StdEncoding.EncodeToString(h.digest))
	case schemeBcrypt:
		return h.scheme + "$" + h.bcryptString()
	}
	return "argon2" + h.phcString()
}

func (h hashed) bcryptString() string {
	return fmt.Sprintf("$%s$%02d$%s%s", h.version, h.rounds, h.salt, h.digest)
}
