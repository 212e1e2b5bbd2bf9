package keyexport

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"keymill/cmd/keymill/internal/terminal"
	"keymill/cmd/keymill/internal/terminal/terminaltest"
	"keymill/jwks"
)

// TestADirectoryFollowsTheSet: a new key gets a file, one that left the set has none, and a second run changes nothing.
func TestADirectoryFollowsTheSet(t *testing.T) {
	w := newWorld(t)
	w.changes("a", "b")
	w.has("a.pem", "b.pem")
	if got, want := w.out.String(), "wrote a.pem\nwrote b.pem\nchanged: 2 keys in "+w.dir+"\n"; got != want {
		t.Errorf("printed %q, want %q", got, want)
	}
	before, err := os.Stat(filepath.Join(w.dir, "b.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.export(PEM, setOf(t, "b", "a")); err != nil || w.out.String() != "unchanged: 2 keys in "+w.dir+"\n" {
		t.Errorf("a second run: %v, %q", err, w.out.String())
	}
	w.changes("b", "c")
	w.has("b.pem", "c.pem")
	if w.read("b.pem") != pemOf(t, "b") || w.read("c.pem") != pemOf(t, "c") {
		t.Error("a file has another key")
	}
	if after, err := os.Stat(filepath.Join(w.dir, "b.pem")); err != nil || !os.SameFile(before, after) || !after.ModTime().Equal(before.ModTime()) {
		t.Errorf("a file that has not changed was written again (%v)", err)
	}
	if got := terminal.Report(&bytes.Buffer{}, Changed); got != 10 || w.errs.Len() > 0 {
		t.Errorf("exit code %d, standard error %q", got, w.errs.String())
	}
}

// TestEveryUserCanReadTheFiles, whatever the umask is, and other programs understand them.
func TestEveryUserCanReadTheFiles(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077))
	w := newWorld(t)
	w.changes("a")
	for name, want := range map[string]os.FileMode{".": 0o755, "a.pem": 0o644, manifestName: 0o644} {
		if info, err := os.Stat(filepath.Join(w.dir, name)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: mode %v, %v, want %v", name, info.Mode(), err, want)
		}
	}
	block, rest := pem.Decode([]byte(w.read("a.pem")))
	if block == nil || block.Type != "PUBLIC KEY" || len(rest) > 0 {
		t.Fatalf("a.pem is %q", w.read("a.pem"))
	}
	if public, err := x509.ParsePKIXPublicKey(block.Bytes); err != nil || !key("a").Public.(ed25519.PublicKey).Equal(public) {
		t.Errorf("another key, %v", err)
	}
	w.dir += "-jwks"
	if err := w.export(JWKS, setOf(t, "a", "b")); !errors.Is(err, Changed) {
		t.Fatal(err)
	}
	w.has("jwks.json")
	if set, err := jwks.Parse([]byte(w.read("jwks.json"))); err != nil || len(set.Keys()) != 2 {
		t.Errorf("jwks.json: %v", err)
	}
}

// TestStandardOutputHasTheSameKeys, and no kid can end its line.
func TestStandardOutputHasTheSameKeys(t *testing.T) {
	const odd = "x\n-----BEGIN PUBLIC KEY-----\n"
	for format, want := range map[Format]string{
		PEM:  "# kid a, EdDSA\n" + pemOf(t, "a") + "# kid x -----BEGIN PUBLIC KEY-----, EdDSA\n" + pemOf(t, odd),
		JWKS: string(setOf(t, "a", odd).JSON()) + "\n",
	} {
		var out bytes.Buffer
		e := Export{Source: fixed{set: setOf(t, "a", odd)}.source(), Format: format, Out: &out, Errs: &out}
		if err := e.Run(t.Context()); err != nil || out.String() != want {
			t.Errorf("%s: %v\n%s\nwant\n%s", format, err, out.String(), want)
		}
	}
}

// TestProgramsReadWhatWasDone: --json is JSON in every case.
func TestProgramsReadWhatWasDone(t *testing.T) {
	w := newWorld(t)
	e := Export{Source: fixed{set: setOf(t, "a")}.source(), Format: PEM, Dir: w.dir, JSON: true, Out: &w.out, Errs: &w.errs}
	for _, want := range []string{"true [a.pem] []", "false [] []"} {
		w.out.Reset()
		if err := e.Run(t.Context()); err != nil && !errors.Is(err, Changed) {
			t.Fatal(err)
		}
		var got struct {
			Dir              string
			Keys             int
			Changed          bool
			Written, Removed []string
		}
		if err := json.Unmarshal(w.out.Bytes(), &got); err != nil || got.Dir != w.dir || got.Keys != 1 || fmt.Sprint(got.Changed, got.Written, got.Removed) != want {
			t.Errorf("%s (%v), want %s", w.out.String(), err, want)
		}
	}
	w.out.Reset()
	e.Dir = ""
	var keys []struct{ KID, Alg, PEM string }
	if err := errors.Join(e.Run(t.Context()), json.Unmarshal(w.out.Bytes(), &keys)); err != nil || len(keys) != 1 || keys[0].PEM != pemOf(t, "a") {
		t.Errorf("%s (%v)", w.out.String(), err)
	}
}

// TestNothingReplacesAGoodSet: no key, none of the algorithm, and a fetch that fails.
func TestNothingReplacesAGoodSet(t *testing.T) {
	w := newWorld(t)
	w.changes("a")
	for what, tt := range map[string]struct {
		source fixed
		alg    string
		want   string
	}{
		"no key":                {fixed{set: setOf(t)}, "", "the key set has no key that can be used"},
		"none that we can use":  {fixed{set: parsed(t, `{"keys":[{"kty":"XX","kid":"odd"}]}`)}, "", `no key that can be used; left out: key 0 (kid "odd"): kty "XX" is not supported`},
		"none of the algorithm": {fixed{set: setOf(t, "b")}, "RS256", "the key set has no RS256 key"},
		"a failed fetch":        {fixed{err: errors.New("connection refused")}, "", "connection refused"},
	} {
		var out bytes.Buffer
		e := Export{Source: tt.source.source(), Format: PEM, Alg: tt.alg, Dir: w.dir, Out: &out, Errs: &out}
		if err := e.Run(t.Context()); err == nil || errors.Is(err, Changed) || !strings.Contains(err.Error(), tt.want) || out.Len() > 0 {
			t.Errorf("%s: %v, printed %q", what, err, out.String())
		}
		w.has("a.pem")
	}
}

func parsed(t *testing.T, document string) *jwks.Set {
	t.Helper()
	set, err := jwks.Parse([]byte(document))
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// TestKeysThatAreLeftOutAreNamed, and the others are written.
func TestKeysThatAreLeftOutAreNamed(t *testing.T) {
	w := newWorld(t)
	good := strings.TrimPrefix(string(setOf(t, "a").JSON()), `{"keys":[`)
	if err := w.export(PEM, parsed(t, `{"keys":[{"kty":"XX","kid":"odd"},`+good)); !errors.Is(err, Changed) {
		t.Fatal(err)
	}
	w.has("a.pem")
	if got := w.errs.String(); got != "keymill: warning: left out: key 0 (kid \"odd\"): kty \"XX\" is not supported\n" {
		t.Errorf("standard error: %q", got)
	}
}

// TestAKeyWithoutACertificateIsWrittenInPEM, with a warning, and the others as certificates.
func TestAKeyWithoutACertificateIsWrittenInPEM(t *testing.T) {
	w := newWorld(t)
	published := func(certificates ...string) Source {
		p := Published{setOf(t, "a", "b"), map[string]string{}}
		for _, kid := range certificates {
			p.Certificates[kid] = certificateOf(t, kid)
		}
		return Source{Next: func(context.Context) (Published, error) { return p, nil }}
	}
	e := Export{Source: published("a"), Format: Cert, Dir: w.dir, Out: &w.out, Errs: &w.errs}
	if err := e.Run(t.Context()); !errors.Is(err, Changed) {
		t.Fatal(err)
	}
	w.has("a.crt", "b.pem")
	if w.read("a.crt") != certificateOf(t, "a") || w.read("b.pem") != pemOf(t, "b") {
		t.Error("a file has another content")
	}
	if got := w.errs.String(); !strings.HasPrefix(got, "keymill: warning: key b has no certificate, ") || strings.Count(got, "\n") != 1 {
		t.Errorf("standard error: %q", got)
	}
	e.Source = published("a", "b")
	if err := e.Run(t.Context()); !errors.Is(err, Changed) {
		t.Fatal(err)
	}
	w.has("a.crt", "b.crt")
}

// TestAnAlgorithmIsChosen: only its keys are written.
func TestAnAlgorithmIsChosen(t *testing.T) {
	var out bytes.Buffer
	e := Export{Source: fixed{set: setOf(t, "a")}.source(), Format: JWKS, Alg: jwks.EdDSA, Out: &out, Errs: &out}
	if err := e.Run(t.Context()); err != nil || out.String() != string(setOf(t, "a").JSON())+"\n" {
		t.Errorf("%v, %q", err, out.String())
	}
	if err := (&Export{Format: "der"}).Check(); err == nil || err.Error() != `--format "der" is not a format` || terminal.HintOf(err) != "the formats are jwks, pem, cert" {
		t.Error(err)
	}
}

// TestExportsIntoOneDirectoryWaitForEachOther, and only one of them changes it.
func TestExportsIntoOneDirectoryWaitForEachOther(t *testing.T) {
	w := newWorld(t)
	var group sync.WaitGroup
	results := make([]error, 8)
	for i := range results {
		group.Go(func() {
			e := Export{Source: fixed{set: setOf(t, "a", "b", "c")}.source(), Format: PEM, Dir: w.dir, Out: &bytes.Buffer{}, Errs: &bytes.Buffer{}}
			results[i] = e.Run(t.Context())
		})
	}
	group.Wait()
	changed := 0
	for _, err := range results {
		if errors.Is(err, Changed) {
			changed++
		} else if err != nil {
			t.Error(err)
		}
	}
	if changed != 1 {
		t.Errorf("%d exports changed the directory, want 1", changed)
	}
	w.has("a.pem", "b.pem", "c.pem")
}

// A script gives the results of a Watch one by one.
type script chan fixed

func (s script) next(ctx context.Context) (Published, error) {
	select {
	case <-ctx.Done():
		return Published{}, ctx.Err()
	case f := <-s:
		return f.next(ctx)
	}
}

// TestAWatchGoesOnAfterErrors, leaves the files as they are, says each thing once, and ends without an error.
func TestAWatchGoesOnAfterErrors(t *testing.T) {
	w := newWorld(t)
	var out, errs terminaltest.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	results := make(script)
	e := Export{Source: Source{Next: results.next}, Format: PEM, Dir: w.dir, Out: &out, Errs: &errs}
	ended := make(chan error)
	go func() { ended <- e.Watch(ctx) }()

	down := fixed{err: errors.New("connection refused")}
	for _, f := range []fixed{{set: setOf(t, "a")}, down, down, {set: setOf(t)}, {set: setOf(t, "a")}, {set: setOf(t, "b")}, down, down} {
		results <- f
	}
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("the watch does not end")
	}
	w.has("b.pem")
	if got, want := out.String(), "wrote a.pem\nchanged: 1 key in "+w.dir+"\nwrote b.pem\nremoved a.pem\nchanged: 1 key in "+w.dir+"\n"; got != want {
		t.Errorf("standard output %q, want %q", got, want)
	}
	const stay = "; the files stay as they are\n"
	want := "keymill: warning: connection refused" + stay + "keymill: warning: the key set has no key that can be used" + stay +
		"keymill: the keys are up to date again\nkeymill: warning: connection refused" + stay
	if got := errs.String(); got != want {
		t.Errorf("standard error:\n%s\nwant\n%s", got, want)
	}

	e.Dir = filepath.Join(w.dir, "a", "b")
	if err := e.Watch(t.Context()); err == nil {
		t.Error("a watch of a directory that cannot be used did not end")
	}
}
