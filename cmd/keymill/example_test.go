package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

// helpExamples returns the examples of the help: the path of a command, without "keymill",
// → its lines.
func helpExamples() map[string][]string {
	found := map[string][]string{}
	var visit func(*cobra.Command)
	visit = func(cmd *cobra.Command) {
		path := strings.TrimPrefix(strings.TrimPrefix(cmd.CommandPath(), "keymill"), " ")
		for line := range strings.Lines(cmd.Example) {
			found[path] = append(found[path], strings.TrimSpace(line))
		}
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
	}
	visit(newRoot())
	return found
}

// shellCommands splits a line into simple commands, without assignments and redirections. It
// knows as much of the shell's grammar as the examples need.
func shellCommands(line string) (commands [][]string) {
	var words []string
	word, quote, inWord, depth := "", rune(0), false, 0
	endWord := func() {
		if inWord {
			words = append(words, word)
		}
		word, inWord = "", false
	}
	endCommand := func() {
		endWord()
		for len(words) > 0 && strings.Contains(words[0], "=") {
			words = words[1:]
		}
		if i := slices.IndexFunc(words, func(w string) bool { return w == "<" || w == ">" || w == ">>" }); i >= 0 {
			words = words[:i]
		}
		commands, words = append(commands, words), nil
	}
	for _, r := range line {
		switch {
		case depth > 0 || r == '(': // $(…) is a part of a word
			word += string(r)
			depth += strings.Count(string(r), "(") - strings.Count(string(r), ")")
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word += string(r)
		case r == '\'' || r == '"':
			quote, inWord = r, true
		case r == '|' || r == ';':
			endCommand()
		case r == ' ':
			endWord()
		default:
			word, inWord = word+string(r), true
		}
	}
	endCommand()
	return commands
}

// TestEveryExampleIsUnderstood parses the flags and arguments of each example as the program
// does, and runs nothing.
func TestEveryExampleIsUnderstood(t *testing.T) {
	count := 0
	for path, lines := range helpExamples() {
		for _, line := range lines {
			own := 0
			for _, words := range shellCommands(line) {
				if len(words) == 0 || words[0] != "keymill" {
					continue
				}
				own++
				cmd, rest, err := newRoot().Find(kidsLast(words[1:]))
				if err == nil {
					err = cmd.ParseFlags(rest)
				}
				if err == nil {
					err = cmd.ValidateArgs(cmd.Flags().Args())
				}
				if err != nil || cmd.HasSubCommands() {
					t.Errorf("help of %q: %s: %v", path, line, err)
				}
			}
			if own == 0 {
				t.Errorf("help of %q: %s does not run keymill", path, line)
			}
			count++
		}
	}
	if count < 60 {
		t.Errorf("found only %d examples", count)
	}
}

// TestExamplesOfAGroupAreThoseOfItsVerbs, so that they are run as well.
func TestExamplesOfAGroupAreThoseOfItsVerbs(t *testing.T) {
	found := helpExamples()
	for path, lines := range found {
		if cmd, _, err := newRoot().Find(strings.Fields(path)); err != nil || !cmd.HasSubCommands() {
			continue
		}
		for _, line := range lines {
			if !slices.ContainsFunc(exampleOrder(), func(command string) bool { return slices.Contains(found[command], line) }) {
				t.Errorf("help of %q: %s is not an example of a command", path, line)
			}
		}
	}
}

// exampleOrder lists the commands in an order in which their examples can be run on one server.
func exampleOrder() []string {
	return []string{
		"version", "init", "serve",
		"audience add", "audience set", "audience show", "audience list",
		"client add", "client set", "client list", "client show", "client rotate-secret", "client disable", "client enable",
		"user add", "user set", "user import", "user list", "user show", "user passwd", "user disable", "user enable", "user rename",
		"key list", "key export", "key import", "key rotate", "key revoke", "verifier add", "verifier list", "verifier show", "verifier remove",
		"apply", "node list", "session list", "session why", "session revoke", "session rotate-secret",
		"token", "verify", "audit tail", "backup", "restore", "doctor", "healthcheck", "console", "compact", "migrate",
		"user unblock", "user logout", "user remove", "client remove", "audience remove",
	}
}

// incomplete reports why an example cannot be run as it stands, or returns "".
func incomplete(line string) string {
	switch {
	case strings.Contains(line, "keymill serve"):
		return "it is a server itself"
	case strings.Contains(line, "id.example.com"), strings.Contains(line, "127.0.0.1:8420"):
		return "it names a server elsewhere"
	case strings.Contains(line, "/var/lib/keymill"), strings.Contains(line, "/etc/keymill"), strings.Contains(line, "/etc/haproxy"):
		return "it names a directory elsewhere"
	case strings.Contains(line, "psql"):
		return "it needs a database"
	case line == "keymill healthcheck":
		return "it asks the port of the default"
	case strings.Contains(line, "age1"), strings.Contains(line, "age-key"), strings.Contains(line, "ssh "):
		return "it needs a key or another machine"
	case strings.HasPrefix(line, "keymill restore"):
		return "it needs a stopped server"
	case strings.Contains(line, "dev-service"):
		return "it needs a trial server"
	case strings.HasPrefix(line, "keymill verify"):
		return "it needs a token of an issuer elsewhere"
	case strings.Contains(line, "--wait 1h"):
		return "it waits until the spare is an hour old"
	case strings.HasSuffix(line, "tail -f"), strings.HasPrefix(line, "keymill console"):
		return "it runs until interrupted"
	}
	return ""
}

// refusedHere maps the examples that this server refuses to the hint that they print: its
// keys are too young to rotate, and so is the secret that the example before has published.
func refusedHere() map[string]string {
	const tooEarly = "\n  hint: wait "
	return map[string]string{
		"keymill key rotate --alg EdDSA": tooEarly, "keymill key rotate --alg RS256 --json": tooEarly,
		"keymill session rotate-secret --json | jq -r .used_from": "refresh secret 2 is not used yet; try again in ",
	}
}

// TestEveryExampleWorks runs each complete example in a shell, against a server.
func TestEveryExampleWorks(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	c := p.startWith(append(p.env(), "KEYMILL_SIMPLEJWT_CLIENT=web"), p.serveArgs()...)
	p.prepareExamples(t)
	found, done, ran := helpExamples(), map[string]bool{}, 0
	for _, command := range exampleOrder() {
		if len(found[command]) == 0 {
			t.Errorf("%s has no example", command)
		}
		p.beforeExamples(t, c, command)
		for _, line := range found[command] {
			if done[line] || incomplete(line) != "" {
				continue
			}
			done[line] = true
			ran++
			errs, err := p.example(t, line)
			if want, refused := refusedHere()[line]; refused {
				if err == nil || !strings.Contains(errs, want) {
					t.Errorf("%s: %v, %swant %s", line, err, errs, want)
				}
			} else if err != nil {
				t.Errorf("%s: %v\n%s", line, err, errs)
			}
		}
		delete(found, command)
	}
	for path := range found {
		if cmd, _, err := newRoot().Find(strings.Fields(path)); err != nil || !cmd.HasSubCommands() && !cmd.Hidden {
			t.Errorf("%s is missing in exampleOrder", path)
		}
	}
	if ran < 45 {
		t.Errorf("ran only %d examples", ran)
	}
}

// example runs a line in a shell.
func (p *place) example(t *testing.T, line string) (stderr string, err error) {
	t.Helper()
	// The help has a fixed instant, which is in the past one day.
	line = strings.Replace(line, "2027-01-31T00:00:00Z", time.Now().Add(time.Hour).UTC().Format(time.RFC3339), 1)
	ctx, cancel := context.WithTimeout(t.Context(), failsafe)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-o", "pipefail", "-ec", line)
	cmd.Dir = p.dir
	cmd.Env = append(p.env(), "PATH="+filepath.Join(p.dir, "bin")+":"+os.Getenv("PATH"))
	cmd.Stdin = strings.NewReader("correct horse battery\n") // for read
	var errs bytes.Buffer
	cmd.Stderr = &errs
	err = cmd.Run()
	return errs.String(), err
}

// prepareExamples writes the files that examples read, and stands in for programs that a
// machine may not have.
func (p *place) prepareExamples(t *testing.T) {
	t.Helper()
	p.writeKeyFiles(t)
	p.writeKey("password.txt", "correct horse battery\n")
	p.writeKey("users.json", `[{"model": "auth.user", "pk": 71, "fields": {"username": "dora", "password": "!", "is_active": true}}]`)
	p.writeKey("users.csv", "id,username,password,is_active,email\n72,eve,!,t,eve@example.com\n")
	if err := errors.Join(os.Mkdir(filepath.Join(p.dir, "bin"), 0o755), os.Symlink(p.binary, filepath.Join(p.dir, "bin", "keymill"))); err != nil {
		t.Fatal(err)
	}
	entries := "clients: [{id: kiosk-2, public: true, grants: [refresh_token]}]\n"
	p.writeKey("clients.yaml", entries)
	if err := os.Mkdir(filepath.Join(p.dir, "keymill.d"), 0o755); err != nil {
		t.Fatal(err)
	}
	p.writeKey("keymill.d/clients.yaml", entries)
	for name, script := range map[string]string{
		"python": "cat users.json", "xclip": "cat token.txt", "jq": "cat", "openssl": "cat fresh.pem",
	} {
		if err := os.Chmod(p.writeKey("bin/"+name, "#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// writeKeyFiles writes an old public key and two new private ones.
func (p *place) writeKeyFiles(t *testing.T) {
	t.Helper()
	old, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, fresh, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pkix, err1 := x509.MarshalPKIXPublicKey(old)
	pkcs8, err2 := x509.MarshalPKCS8PrivateKey(fresh)
	b64 := base64.RawURLEncoding.EncodeToString
	jwk, err3 := json.Marshal(map[string]string{"kty": "OKP", "crv": "Ed25519", "x": b64(public), "d": b64(private.Seed())})
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	p.writeKey("old.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pkix})))
	p.writeKey("fresh.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})))
	p.writeKey("signing.jwk", string(jwk))
}

// beforeExamples makes what the examples of a command need and no earlier example has made.
func (p *place) beforeExamples(t *testing.T, c *child, command string) {
	t.Helper()
	switch command {
	case "session list":
		password, err := os.ReadFile(filepath.Join(p.dir, "new.txt")) // from the example of passwd
		if err != nil {
			t.Fatal(err)
		}
		status, body := login(t, c, "alice", strings.TrimSpace(string(password)))
		var pair struct{ Refresh string }
		if err := json.Unmarshal([]byte(body), &pair); err != nil || status != http.StatusOK {
			t.Fatalf("login: %d %s", status, body)
		}
		p.writeKey("token.txt", pair.Refresh+"\n")
	case "audience remove":
		for _, client := range []string{"web", "kiosk", "orders-api"} {
			p.must(nil, "client", "remove", client, "--yes")
		}
	}
}
