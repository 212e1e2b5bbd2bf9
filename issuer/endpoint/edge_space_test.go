package endpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"keymill/issuer/api"
	"keymill/issuer/endpoint/limit"
	"keymill/issuer/refusal"
)

// edgeSpaces are white space for Python. unicode.IsSpace does not count the last two.
// TestWhiteSpaceIsThatOfPython has all of it.
var edgeSpaces = []string{" ", "\t", "\r\n", "\u00a0", "\u3000", "\x1c", "\x1f"}

// invisible are characters at the end of a text that Python does not count as white space.
var invisible = []string{"\u200b", "\u180e", "\ufeff"}

func TestWhiteSpaceIsThatOfPython(t *testing.T) {
	answer, err := exec.CommandContext(t.Context(), "/usr/bin/python3", "-I", "-c",
		`import json, sys; json.dump([c for c in range(sys.maxunicode + 1) if not chr(c).strip()], sys.stdout)`).Output()
	if err != nil && os.Getenv("CI") == "" {
		t.Skipf("Python is missing (scripts/install-deps): %v", err)
	}
	var want, got []rune
	if err := errors.Join(err, json.Unmarshal(answer, &want)); err != nil {
		t.Fatal(err)
	}
	for r := range rune(0x110000) {
		if trimSpace(string(r)) == "" {
			got = append(got, r)
		}
	}
	if !slices.Equal(got, want) || len(got) < 29 {
		t.Errorf("we trim %U, Python %U", got, want)
	}
}

// loginPaths are both login endpoints.
var loginPaths = []string{"/session/login", "/api/token/"}

func TestNamesAreTrimmedAtBothLoginEndpoints(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.withAlice()
		w.user("al ice", "8")
		for n, space := range edgeSpaces {
			name := []string{space + "alice", "alice" + space, space + "al ice" + space}[n%3]
			for _, path := range loginPaths {
				if a := w.postJSON(path, credentials(name, alicesPassword)); a.status != 200 {
					t.Errorf("%s, %+q: %d %s", path, name, a.status, a.body)
				}
			}
		}
		for _, name := range append([]string{"al\u00a0 ice"}, invisible...) {
			for _, path := range loginPaths {
				if a := w.postJSON(path, credentials(name+"alice", alicesPassword)); a.status != 401 {
					t.Errorf("%s, %+q: %d %s", path, name, a.status, a.body)
				}
			}
		}
		for path, want := range map[string]string{
			"/session/login": "members 'username' and 'password' are required", "/api/token/": `{"username":["This field may not be blank."]}`,
		} {
			if a := w.postJSON(path, credentials(" \t\u3000\x1f", alicesPassword)); a.status != 400 || !strings.Contains(a.body, want) {
				t.Errorf("%s, a name of white space: %d %s", path, a.status, a.body)
			}
		}
	})
}

// hashesOf returns how many passwords f hashes: no other code here allocates so much.
func hashesOf(f func()) int {
	const oneHash = 19 << 20
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return int(after.TotalAlloc-before.TotalAlloc) / oneHash
}

// TestPasswordsAreTriedAsTyped at both endpoints, and at the simplejwt endpoint without the white space
// around them too. A second form costs a second hash, unless the first one matches.
func TestPasswordsAreTriedAsTyped(t *testing.T) {
	const edged = "\u00a0 four words of mine\t"
	type result struct{ status, hashes int }
	type row struct {
		name, password     string
		browser, simplejwt result
	}
	rows := []row{
		{"alice", alicesPassword, result{200, 1}, result{200, 1}},
		{"alice", "correct horse  battery staple", result{401, 1}, result{401, 1}},
		{"edgar", edged, result{200, 1}, result{200, 1}},
		{"edgar", strings.TrimSpace(edged), result{401, 1}, result{401, 1}},
		{"edgar", " " + edged, result{401, 1}, result{401, 2}},
		{"edgar", edged + "\n", result{401, 1}, result{401, 2}},
	}
	for n, space := range edgeSpaces {
		typed := []string{space + alicesPassword, alicesPassword + space, space + alicesPassword + space}[n%3]
		rows = append(rows, row{"alice", typed, result{401, 1}, result{200, 2}})
	}
	for _, character := range invisible {
		rows = append(rows, row{"alice", alicesPassword + character, result{401, 1}, result{401, 1}})
	}
	inBubble(t, func(t *testing.T, w *world) {
		w.withAlice()
		if _, err := w.issuer.AddUser(t.Context(), api.NewUser{ID: "8", Name: "edgar", Password: refusal.Secret(edged)}, "uid:0"); err != nil {
			t.Fatal(err)
		}
		w.obtain() // and measure one hash
		for _, tt := range rows {
			for path, want := range map[string]result{"/session/login": tt.browser, "/api/token/": tt.simplejwt} {
				var got result
				got.hashes = hashesOf(func() { got.status = w.postJSON(path, credentials(tt.name, tt.password)).status })
				if got != want {
					t.Errorf("%s, %s, %+q: got the status and the number of hashes %v, want %v", path, tt.name, tt.password, got, want)
				}
			}
			time.Sleep(limit.Window) // so that the failures of these rows do not limit the next ones
		}
		for path, want := range map[string]int{"/session/login": 401, "/api/token/": 400} {
			if a := w.postJSON(path, credentials("alice", " \x1f\u3000")); a.status != want {
				t.Errorf("%s, a password of white space: %d %s, want %d", path, a.status, a.body, want)
			}
		}
	})
}

// TestEveryKindOfUserCostsTheSameHashes: known, unknown, disabled and without a password. A test in
// integration_test/numbers compares the times.
//
// R98.
func TestEveryKindOfUserCostsTheSameHashes(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.withAlice()
		w.user("disabled", "8")
		_, err := w.issuer.SetUser(t.Context(), "disabled", api.UserChange{Disabled: new(true)}, "uid:0")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.issuer.AddUser(t.Context(), api.NewUser{ID: "9", Name: "passwordless"}, "uid:0"); err != nil {
			t.Fatal(err)
		}
		w.obtain()
		for _, path := range loginPaths {
			bodies := map[string]bool{}
			for _, name := range []string{"alice", "unknown", "disabled", "passwordless", "\u00a8 invalid"} {
				for form, want := range map[string]int{"wrong": 1, "\x1ewrong\u3000": 2, "wrong" + strings.Repeat(" ", 5000): 2} {
					if path == "/session/login" {
						want = 1
					}
					var a answer
					if n := hashesOf(func() { a = w.postJSON(path, credentials(name, form)) }); n != want || a.status != 401 {
						t.Errorf("%s, %s, %.10q: %d hashes, want %d; %d %s", path, name, form, n, want, a.status, a.body)
					}
					bodies[a.body] = true
				}
			}
			if len(bodies) != 1 {
				t.Errorf("%s: the answers differ: %v", path, bodies)
			}
		}
	})
}

// TestTwoFormsAreOneAttempt for the limits of an account at an address, also in parallel, and for the
// number of refused logins.
//
// R99.
func TestTwoFormsAreOneAttempt(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.withAlice()
		w.imported("cheap", "8", cheapHash)
		w.imported("other", "9", cheapHash)
		for n := range limit.AccountFailures {
			space := edgeSpaces[n%len(edgeSpaces)]
			if a := w.postJSON("/api/token/", credentials(space+"cheap", "wrong"+space)); a.status != 401 {
				t.Fatalf("failure %d: %d %s", n+1, a.status, a.body)
			}
		}
		if got := w.server.refused.Take(); got["wrong_password"] != limit.AccountFailures {
			t.Errorf("counted %v, want %d refused logins", got, limit.AccountFailures)
		}
		if a := w.postJSON("/session/login", credentials("cheap", "wrong")); a.status != 429 {
			t.Errorf("after %d failures: %d %s", limit.AccountFailures, a.status, a.body)
		}
		var mu sync.Mutex
		got := map[int]int{}
		var all sync.WaitGroup
		for range 2 * limit.AccountFailures {
			all.Go(func() {
				a := w.postJSON("/api/token/", credentials("other", " wrong"))
				mu.Lock()
				defer mu.Unlock()
				got[a.status]++
			})
		}
		all.Wait()
		if got[401] != limit.AccountFailures || got[429] != limit.AccountFailures {
			t.Errorf("in parallel: %v", got)
		}
	})
}

// TestTwoFormsAreOneFailureOfAnAccount, counted over all addresses.
//
// R99.
func TestTwoFormsAreOneFailureOfAnAccount(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.withAlice()
		w.imported("cheap", "8", cheapHash)
		for n := range 11 {
			w.http = w.from(fmt.Sprintf("192.0.2.%d", n+1))
			began := time.Now()
			if a := w.postJSON("/api/token/", credentials("cheap", "\twrong")); a.status != 401 {
				t.Fatalf("failure %d: %d %s", n+1, a.status, a.body)
			}
			want := time.Duration(0)
			if n == 10 {
				want = limit.FirstDelay
			}
			if took := time.Since(began); took != want {
				t.Errorf("attempt %d waited %v, want %v", n+1, took, want)
			}
		}
	})
}
