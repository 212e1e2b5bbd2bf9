package cli

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"keymill/integration_test/server"
)

// keyFiles makes a key or a certificate in every format that OpenSSL and ssh-keygen write.
const keyFiles = `set -e
openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out rsa.pem
openssl genpkey -algorithm ed25519 -out ed.pem
openssl ecparam -name prime256v1 -genkey -out ec-sec1.pem
openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out ec-pkcs8.pem
openssl pkey -in ec-pkcs8.pem -pubout -out ec-public.pem
openssl pkey -in ec-pkcs8.pem -ec_conv_form compressed -out ec-compressed.pem
openssl ec -in ec-pkcs8.pem -conv_form compressed -out ec-sec1-compressed.pem
openssl pkey -in ec-pkcs8.pem -pubout -ec_conv_form compressed -out ec-public-compressed.pem
openssl ecparam -name prime256v1 -param_enc explicit -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out ec-explicit.pem
openssl ecparam -name secp256k1 -genkey -noout -out ec-secp256k1-sec1.pem
openssl pkcs8 -topk8 -nocrypt -in ec-secp256k1-sec1.pem -out ec-secp256k1.pem
openssl ecparam -name secp384r1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out ec-p384.pem
openssl genpkey -algorithm ed448 -out ed448.pem
openssl genpkey -algorithm x25519 -out x25519.pem
openssl genpkey -algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048 -out pss.pem
openssl pkey -in rsa.pem -aes256 -passout pass:secret -out rsa-pkcs8-encrypted.pem
openssl pkey -in ed.pem -aes256 -passout pass:secret -out ed-pkcs8-encrypted.pem
openssl rsa -in rsa.pem -traditional -out rsa-pkcs1.pem
openssl rsa -in rsa.pem -traditional -aes256 -passout pass:secret -out rsa-pkcs1-encrypted.pem
openssl ec -in ec-pkcs8.pem -aes256 -passout pass:secret -out ec-sec1-encrypted.pem
openssl pkcs8 -topk8 -nocrypt -in rsa.pem -outform DER -out rsa-pkcs8.der
openssl rsa -in rsa.pem -traditional -outform DER -out rsa-pkcs1.der
openssl pkey -in ed.pem -outform DER -out ed.der
openssl pkcs8 -topk8 -nocrypt -in ec-pkcs8.pem -outform DER -out ec.der
openssl pkey -in ec-pkcs8.pem -outform DER -out ec-sec1.der
openssl pkcs8 -topk8 -in rsa.pem -passout pass:secret -outform DER -out rsa-encrypted.der
openssl pkey -in rsa.pem -pubout -out rsa-public.pem
openssl pkey -in rsa.pem -pubout -outform DER -out rsa-public.der
openssl rsa -in rsa.pem -RSAPublicKey_out -out rsa-public-pkcs1.pem
openssl rsa -in rsa.pem -RSAPublicKey_out -outform DER -out rsa-public-pkcs1.der
openssl req -x509 -new -key rsa.pem -subj /CN=id.example.com -days 30 -out cert.pem
openssl x509 -in cert.pem -outform DER -out cert.der
openssl x509 -in cert.pem -trustout -out cert-trusted.pem
openssl req -new -key ed.pem -subj /CN=id.example.com -out request.pem
openssl crl2pkcs7 -nocrl -certfile cert.pem -out cert.p7b
openssl pkcs12 -export -inkey rsa.pem -in cert.pem -passout pass:secret -out store.p12
cat rsa.pem cert.pem > key-first.pem
cat cert.pem cert.pem rsa-pkcs1.pem > key-last.pem
openssl pkcs12 -in store.p12 -passin pass:secret -nodes -out bags.pem
cat rsa.pem ed.pem > two-keys.pem
cat cert.pem rsa-pkcs8-encrypted.pem > cert-and-encrypted.pem
head -n -3 rsa.pem > cut.pem
openssl ecparam -name prime256v1 -out ec-parameters.pem
tr -d '\n' < rsa.pem | sed 's/-----/&\\n/2; s/-----END/\\n&/' > one-line.pem
base64 < rsa.pem > twice.txt
grep -v -e ----- rsa.pem > bare.txt
ssh-keygen -q -t rsa -b 2048 -N '' -f ssh-rsa
ssh-keygen -q -t ed25519 -N '' -f ssh-ed25519
ssh-keygen -q -t ecdsa -b 256 -N '' -f ssh-ecdsa
ssh-keygen -q -t ecdsa -b 384 -N '' -f ssh-ecdsa-384
cp ssh-rsa ssh-rsa-encrypted && ssh-keygen -q -p -P '' -N secret -f ssh-rsa-encrypted
cp ssh-ed25519 ssh-ed25519-encrypted && ssh-keygen -q -p -P '' -N secret -f ssh-ed25519-encrypted
ssh-keygen -e -f ssh-rsa.pub > ssh-rsa-4716.pub
ssh-keygen -q -s ssh-rsa -I test -n test ssh-ed25519.pub
`

// A keyFormat is a file, what key import says about it, and whether a key comes of it.
type keyFormat struct {
	file, says string
	convert    string // how its password is given to the program of the hint; "-" if no hint is expected
}

// TestEveryFormatOfAKeyIsTakenOrNamed imports each file. It runs the command line of the hint as it is
// printed, and imports what that makes, until the key is in the store.
func TestEveryFormatOfAKeyIsTakenOrNamed(t *testing.T) {
	s := server.Start(t, server.Options{Config: "keys: {algorithms: [RS256, EdDSA, ES256]}"})
	dir := t.TempDir()
	makeFiles := exec.Command("bash", "-c", keyFiles)
	makeFiles.Dir = dir
	if out, err := makeFiles.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	const password, none = " -passin pass:secret", "-"
	for _, f := range []keyFormat{
		{"rsa.pem", "", ""}, {"ed.pem", "", ""}, {"rsa-pkcs1.pem", "", ""}, {"rsa-public.pem", "", ""}, {"rsa-public-pkcs1.pem", "", ""},
		{"key-first.pem", "", ""}, {"key-last.pem", "", ""}, {"bags.pem", "", ""},
		{"rsa-pkcs8-encrypted.pem", "an encrypted private key (PKCS #8)", password},
		{"ed-pkcs8-encrypted.pem", "an encrypted private key (PKCS #8)", password},
		{"cert-and-encrypted.pem", "an encrypted private key (PKCS #8)", password},
		{"rsa-pkcs1-encrypted.pem", "an encrypted private key (PKCS #1)", password},
		{"ec-sec1.pem", "", ""}, {"ec-sec1-encrypted.pem", "an encrypted EC private key (SEC 1)", password},
		{"ec-pkcs8.pem", "", ""}, {"ec-public.pem", "", ""},
		{"ec-compressed.pem", "an EC key whose point is compressed", ""}, {"ec-sec1-compressed.pem", "an EC key whose point is compressed", ""},
		{"ec-public-compressed.pem", "an EC key whose point is compressed", ""},
		{"ec-explicit.pem", "an EC key on an unusual curve", none}, {"ec-secp256k1.pem", "an EC key on the curve secp256k1", none},
		{"ec-secp256k1-sec1.pem", "an EC key on the curve secp256k1", none}, {"ec-p384.pem", "an EC key on the curve P-384", none},
		{"ec.der", "a private key in DER (PKCS #8)", ""}, {"ec-sec1.der", "an EC private key in DER (SEC 1)", ""}, {"ec-parameters.pem", "parameters of an EC key", none},
		{"ed448.pem", "an Ed448 key", none}, {"x25519.pem", "an X25519 key", none}, {"pss.pem", "an RSA-PSS key", none},
		{"rsa-pkcs8.der", "a private key in DER (PKCS #8)", ""}, {"rsa-pkcs1.der", "a private key in DER (PKCS #1)", ""},
		{"ed.der", "a private key in DER", ""}, {"rsa-encrypted.der", "an encrypted private key in DER", password},
		{"rsa-public.der", "a public key in DER", ""}, {"rsa-public-pkcs1.der", "a public key in DER (PKCS #1)", ""},
		{"cert.pem", "an X.509 certificate, which has only a public key", ""}, {"cert-trusted.pem", "an X.509 certificate", ""},
		{"cert.der", "an X.509 certificate in DER", ""}, {"request.pem", "a certificate request", ""},
		{"cert.p7b", "a PKCS #7 file", ""}, {"store.p12", "a PKCS #12 file", password},
		{"two-keys.pem", "one key at a time: the file has 2", none}, {"cut.pem", "PEM that is incomplete", none},
		{"one-line.pem", "PEM whose lines are joined", ""}, {"twice.txt", "PEM that is encoded in base64 once more", ""},
		{"bare.txt", "base64 without BEGIN and END lines: a private key in DER", ""},
		{"ssh-rsa", "an OpenSSH private key", ""}, {"ssh-ed25519", "an OpenSSH private key", ""},
		{"ssh-rsa-encrypted", "an encrypted OpenSSH private key", " -P secret"},
		{"ssh-ed25519-encrypted", "an encrypted OpenSSH private key", " -P secret"},
		{"ssh-ecdsa", "an OpenSSH private key", ""}, {"ssh-ecdsa.pub", "an SSH public key", ""},
		{"ssh-ecdsa-384", "an OpenSSH private key of another type", none}, {"ssh-ecdsa-384.pub", "an SSH public key of another type", none},
		{"ssh-rsa.pub", "an SSH public key", ""}, {"ssh-ed25519.pub", "an SSH public key", ""},
		{"ssh-rsa-4716.pub", "an SSH public key (RFC 4716)", ""}, {"ssh-ed25519-cert.pub", "an SSH certificate", none},
	} {
		t.Run(f.file, func(t *testing.T) {
			importKey(t, s, dir, f)
		})
	}
}

func importKey(t *testing.T, s *server.Server, dir string, f keyFormat) {
	file, first := f.file, true
	for range 5 {
		code, errs := tryImport(t, s, dir, "key", "import", file, "--kid", f.file, "--until", "2199-01-01T00:00:00Z")
		if strings.Contains(errs, "this key is already stored under the kid") {
			code, errs = 0, "" // most files hold the same key, and this one was read
		}
		said, hint, hinted := strings.Cut(errs, "\n  hint: to convert it: ")
		if first && !strings.Contains(said, f.says) || strings.Count(errs, "\n") > 2 {
			t.Fatalf("import says %q, want %q", errs, f.says)
		}
		switch {
		case code == 0 && first != (f.says == ""), hinted && f.convert == "-", code != 0 && !hinted && f.convert != "-":
			t.Fatalf("%s: code %d, %s", file, code, errs)
		case !hinted:
			return
		}
		line := strings.TrimSpace(hint)
		if strings.HasPrefix(line, "(umask 077; python3") || strings.HasPrefix(line, "python3") {
			if exec.Command("python3", "-c", "import cryptography").Run() != nil {
				if os.Getenv("CI") != "" {
					t.Fatal("python3-cryptography is not installed")
				}
				t.Skip("python3-cryptography is not installed")
			}
		}
		made := regexp.MustCompile(`keymill-[a-z]+(\.\w+)?`).FindAllString(line, -1)
		file = made[len(made)-1]
		os.Remove(filepath.Join(dir, file))
		if first {
			line += f.convert
		}
		first = false
		convert := exec.Command("sh", "-c", line)
		convert.Dir = dir
		if out, err := convert.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", line, err, out)
		}
		if info, err := os.Stat(filepath.Join(dir, file)); err != nil || strings.Contains(line, "umask") && info.Mode().Perm() != 0o600 {
			t.Errorf("%s makes %v, %v", line, info, err)
		}
	}
	t.Error("the conversions do not end")
}

// tryImport runs a verb in dir, and returns its exit code and what it says.
func tryImport(t *testing.T, s *server.Server, dir string, args ...string) (code int, errs string) {
	binary, err := server.Binary()
	if err != nil {
		t.Fatal(err)
	}
	var stderr strings.Builder
	cmd := exec.Command(binary, args...)
	cmd.Dir, cmd.Env, cmd.Stderr = dir, append(server.Environment(), "KEYMILL_DATA="+s.Data), &stderr
	err = cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), stderr.String()
}
