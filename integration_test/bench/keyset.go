package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"keymill/integration_test/server"
	"keymill/jwks"
)

// keySetPlan has the pairs of slices of each round.
func (o options) keySetPlan() (p plan, rounds int) {
	if o.quick {
		return plan{slices: 3, slice: 200 * time.Millisecond}, 1
	}
	return plan{slices: 20, slice: 100 * time.Millisecond}, 10
}

// A keySetLoad is a way to fetch the key set.
type keySetLoad struct {
	name      string
	header    bool // names a pinned verifier in a header
	parameter bool // names it in the URL
	known     bool // the caller has the set
}

func keySetLoads() []keySetLoad {
	return []keySetLoad{
		{name: "GET"}, {name: "GET 304", known: true},
		{name: "pinned by header", header: true}, {name: "pinned by header 304", header: true, known: true},
		{name: "pinned by URL", parameter: true}, {name: "pinned by URL 304", parameter: true, known: true},
	}
}

// path returns the path of the key set for a verifier with that credential.
func (l keySetLoad) path(credential string) string {
	if l.parameter {
		return keySetPath + "?" + jwks.VerifierParameter + "=" + credential
	}
	return keySetPath
}

// head returns the lines of the header, without If-None-Match.
func (l keySetLoad) head(t target) string {
	lines := "Host: " + t.address + "\r\nUser-Agent: bench\r\n"
	if l.header {
		lines += jwks.VerifierHeader + ": " + t.credential + "\r\n"
	}
	return lines
}

// caller fetches the set once, and then with its ETag if the caller knows it.
func (l keySetLoad) caller(t target) caller {
	plain := "GET " + l.path(t.credential) + " HTTP/1.1\r\n" + l.head(t)
	if !l.known {
		return always(plain + "\r\n")
	}
	request := []byte(plain + "\r\n")
	return func(answer []byte) []byte {
		if len(answer) > 0 {
			request = []byte(plain + "If-None-Match: " + entityTag(answer) + "\r\n\r\n")
		}
		return request
	}
}

// entityTag returns the ETag of a set, see jwks.Set.
func entityTag(set []byte) string {
	sum := sha256.Sum256(set)
	return `"` + base64.RawURLEncoding.EncodeToString(sum[:16]) + `"`
}

// measureKeySet compares this build with another one, in rounds with servers of their own.
func measureKeySet(against string, p plan, rounds int, w io.Writer) (missed []string, err error) {
	var all repeated
	for _, l := range keySetLoads() {
		all.add(scenario{name: l.name, caller: l.caller})
	}
	for n := range rounds {
		if err := measureKeySetOnce(against, p, n%2 == 1, all); err != nil {
			return nil, err
		}
	}
	return all.print(w, "jwks", "that of "+against)
}

// measureKeySetOnce does one round. The other build starts first in every second one.
func measureKeySetOnce(against string, p plan, otherFirst bool, results repeated) (err error) {
	binaries, targets := []string{"", against}, make([]target, 2)
	for n := range binaries {
		if otherFirst {
			n = 1 - n
		}
		running, t, failed := startKeymill(binaries[n], "")
		if running != nil {
			defer func() { err = errors.Join(err, running.Close()) }()
		}
		if failed == nil {
			t.credential, failed = pin(running, n == 0)
		}
		if failed == nil {
			failed = checkKeySet(t)
		}
		if failed != nil {
			return failed
		}
		targets[n] = t
	}
	return results.round(targets[0], targets[1], p)
}

// unpinned is a credential as long as a real one. Builds that know no pinned verifiers get the same
// requests as those that do, and ignore it.
const unpinned = "bench-verifier.aaaaaaaaaaaaaaaa"

// pin pins a verifier and returns its credential. An other build may not know the verb.
func pin(s *server.Server, must bool) (string, error) {
	out, errs, err := s.Verb(context.Background(), "verifier", "add", "bench-verifier", "--json")
	if err != nil && must {
		return "", fmt.Errorf("keymill verifier add: %w: %s", err, errs)
	}
	if err != nil {
		return unpinned, nil
	}
	var v struct {
		Credential string `json:"credential"`
	}
	if err := json.Unmarshal([]byte(out), &v); err != nil || len(v.Credential) != len(unpinned) {
		return "", fmt.Errorf("answer of keymill verifier add: %q, %w", out, err)
	}
	return v.Credential, nil
}

// checkKeySet checks that each load gets the answer that it is to measure: an error is fast too.
func checkKeySet(t target) error {
	for _, l := range keySetLoads() {
		r, err := http.NewRequest(http.MethodGet, "http://"+t.address+l.path(t.credential), nil)
		if err != nil {
			return err
		}
		if l.header {
			r.Header.Set(jwks.VerifierHeader, t.credential)
		}
		status, body, err := get(r)
		if err == nil && l.known && status == http.StatusOK {
			r.Header.Set("If-None-Match", entityTag(body))
			status, _, err = get(r)
		}
		want := http.StatusOK
		if l.known {
			want = http.StatusNotModified
		}
		if err != nil || status != want {
			return fmt.Errorf("%s at %s: status %d, want %d, %w", l.name, t.address, status, want, err)
		}
	}
	return nil
}

func get(r *http.Request) (status int, body []byte, err error) {
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer answer.Body.Close()
	body, err = io.ReadAll(answer.Body)
	return answer.StatusCode, body, err
}
