package randomness

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"
)

func of(s string) (out [Size]byte) {
	if copy(out[:], s) != len(s) {
		panic("too long: " + s)
	}
	return out
}

// sequence returns 32 bytes from first on.
func sequence(first byte, step func(i int) byte) (out [Size]byte) {
	out[0] = first
	for i := 1; i < Size; i++ {
		out[i] = out[i-1] + step(i)
	}
	return out
}

func constant(step byte) func(int) byte { return func(int) byte { return step } }

// TestSecretsThatNobodyDrewAreRecognised in hex and base64, and all the more as raw bytes.
func TestSecretsThatNobodyDrewAreRecognised(t *testing.T) {
	for name, tt := range map[string]struct {
		secret [Size]byte
		want   string
	}{
		"zeros":                {of(""), "same"},
		"ones":                 {of(strings.Repeat("\xff", 32)), "same"},
		"one letter":           {of(strings.Repeat("k", 32)), "same"},
		"a number":             {of(strings.Repeat("\x00", 31) + "\x07"), "few different"},
		"12 bytes, any order":  {of("abcdefghijklaabbccddeeffgghhiijj"), "few different"},
		"hex text":             {of("00112233445566770011223344556677"), "few different"},
		"upwards":              {sequence(0, constant(1)), "sequence"},
		"downwards":            {sequence(255, constant(255)), "sequence"},
		"from the middle":      {sequence(0x80, constant(1)), "sequence"},
		"by 17":                {sequence(3, constant(17)), "sequence"},
		"by 8 and 9":           {sequence(3, func(i int) byte { return 8 + byte(i%2) }), "sequence"},
		"squares":              {sequence(0, func(i int) byte { return byte(2*i - 1) }), "sequence"},
		"half and half":        {of(strings.Repeat("\x13\xa7\x01\x9c\xee\x42\x5b\xd0\x77\x3a\x81\xf9\x26\xc4\x6d\xb8", 2)), "pattern"},
		"13 bytes, repeated":   {of((strings.Repeat("\x13\xa7\x01\x9c\xee\x42\x5b\xd0\x77\x3a\x81\xf9\x26", 3))[:32]), "pattern"},
		"a mirror":             {of("\x13\xa7\x01\x9c\xee\x42\x5b\xd0\x77\x3a\x81\xf9\x26\xc4\x6d\xb8\xb8\x6d\xc4\x26\xf9\x81\x3a\x77\xd0\x5b\x42\xee\x9c\x01\xa7\x13"), "pattern"},
		"UTF-16":               {of("M\x00y\x00 \x00w\x00o\x00r\x00d\x00s\x00,\x00 \x00b\x00i\x00g\x00!\x00?\x00\x31\x00"), "pattern"},
		"filled with zeros":    {of("Tr0ub4dor&3, and more"), "filled up"},
		"filled in front":      {of(strings.Repeat("#", 11) + "\x13\xa7\x01\x9c\xee\x42\x5b\xd0\x77\x3a\x81\xf9\x26\xc4\x6d\xb8\x00\x17\x54\x99\xab"), "filled up"},
		"words":                {of("correct horse battery staple one"), "text"},
		"words and marks":      {of("My secret passphrase, keep it!!!"), "text"},
		"a name":               {of("keymill-production-master-key-01"), "text"},
		"capitals":             {of("KEYMILL_PRODUCTION_MASTER_KEY_01"), "text"},
		"32 letters":           {of("Xk3vQp9LmZr7TwYb2NcHd5JfGs8AeUi4"), "text"},
		"the alphabet":         {of("abcdefghijklmnopqrstuvwxyz012345"), "sequence"},
		"Cyrillic":             {of("секретныйпароль!!"), "text"},
		"Chinese":              {of("我们的主密钥很安全12345"), "text"},
		"NIST SP 800-38A":      {unhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4"), "example"},
		"RFC 8439":             {unhex("1c9240a5eb55d38af333888604f6b5f0473917c1402b80099dca5cbc207075c0"), "example"},
		"RFC 8032":             {unhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"), "example"},
		"RFC 8032, test 2":     {unhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"), "example"},
		"RFC 8032, test 3":     {unhex("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7"), "example"},
		"RFC 7748":             {unhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"), "example"},
		"RFC 7520":             {unbase64("hJtXIZ2uSN5kbQfbtTNWbpdmhkV8FJG-Onbc6mxCcYg"), "example"},
		"Fernet":               {unbase64("cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4"), "example"},
		"Airflow":              {unbase64("FB0o_zt4e3Ziq3LdUUO7F2Z95cvFFx16hU8jTeR1ASM"), "example"},
		"GCM":                  {unhex("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308"), "pattern"},
		"SHA-256 of nothing":   {sha256.Sum256(nil), "hash"},
		"SHA-256 of a newline": {sha256.Sum256([]byte("\n")), "hash"},
		"of password":          {sha256.Sum256([]byte("password")), "hash"},
		"of password, echo":    {sha256.Sum256([]byte("password\n")), "hash"},
		"of Password":          {sha256.Sum256([]byte("Password")), "hash"},
		"of SECRET":            {sha256.Sum256([]byte("SECRET")), "hash"},
		"of admin123":          {sha256.Sum256([]byte("admin123")), "hash"},
	} {
		for _, raw := range []bool{false, true} {
			if got := Fault(tt.secret, raw); tt.want == "" != (got == "") || !strings.Contains(got, tt.want) {
				t.Errorf("%s, raw %v: %q, want %q", name, raw, got, tt.want)
			}
		}
	}
	// Text of all kinds of characters is refused as it stands in a file.
	if secret := of(`p#8Zr!v2@Qm&x5^Lt*9Ws(4Kd)7Gb_3` + "\n"); Fault(secret, true) == "" || Fault(secret, false) != "" {
		t.Errorf("a raw password: %q, %q", Fault(secret, true), Fault(secret, false))
	}
}

func unhex(s string) (out [Size]byte) {
	b, err := hex.DecodeString(s)
	if copy(out[:], b) != Size || err != nil {
		panic(s)
	}
	return out
}

func unbase64(s string) (out [Size]byte) {
	b, err := base64.RawURLEncoding.DecodeString(s)
	if copy(out[:], b) != Size || err != nil {
		panic(s)
	}
	return out
}

// TestRandomSecretsAreAccepted, a million of them.
func TestRandomSecretsAreAccepted(t *testing.T) {
	secrets := make([]byte, 1_000_000*Size)
	rand.Read(secrets)
	for i := 0; i < len(secrets); i += Size {
		secret := secrets[i : i+Size]
		if got := patternOf(secret, true); got != "" || isExample([Size]byte(secret)) {
			t.Fatalf("%x: %q", secret, got)
		}
	}
	for i := range 1000 { // hashes take longer, and no chance is smaller than theirs
		if got := Fault([Size]byte(secrets[i*Size:]), true); got != "" {
			t.Fatalf("%x: %q", secrets[i*Size:(i+1)*Size], got)
		}
	}
}
