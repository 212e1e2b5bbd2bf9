package cluster

import (
	"encoding/base64"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// Limits of how long a client waits, on a slow machine.
const (
	fast  = 10 * time.Second // while one node or one connection fails
	slow  = 20 * time.Second // while the database recovers from a crash; a request waits for it for 10 s
	crash = 40 * time.Second // with the start of a database that crashed

	nginxForgets = 2500 * time.Millisecond // that a node did not answer; its fail_timeout, and a little more
)

// TestNothingIsLostWhenAPartFails: no token that was acknowledged, whatever part of the cluster ends while clients refresh, and no
// access token is refused by a service.
func TestNothingIsLostWhenAPartFails(t *testing.T) {
	other := otherBuild(t) // while the cluster starts
	w := start(t)
	b := w.addBilling(t)
	d := w.newDetour(t)
	l := w.begin(t)
	for _, fault := range []struct {
		name  string
		limit time.Duration
		most  int // times that a client may have to send a request; 0 for no bound
		run   func(t *testing.T)
	}{
		{"a node is killed", fast, 2, func(t *testing.T) { w.do(t, "kill node-2", "start node-2") }},
		{"the nodes are upgraded and one is cut off", fast, 2, func(t *testing.T) { w.upgraded(t, other(), b) }},
		{"the nodes are downgraded", fast, 2, func(t *testing.T) { w.downgraded(t, d) }},
		{"connections are cut every 50 ms", slow + cutting(), 0, func(t *testing.T) { w.cutAllTheTime(t, d) }},
		{"the pooler is restarted", fast, 0, func(t *testing.T) { w.do(t, "stop pgbouncer", "start pgbouncer") }},
		{"the database is restarted in order", slow, 0, func(t *testing.T) { w.do(t, "stop db-1", "start db-1") }},
		{"the database crashes", crash, 0, func(t *testing.T) { w.do(t, "kill db-1", "start db-1") }},
		{"the standby is away", slow, 0, func(t *testing.T) { w.do(t, "kill db-2", "start db-2") }},
		{"the standby becomes the primary", slow, 0, func(t *testing.T) { w.do(t, "failover") }},
		{"the old primary becomes the standby", slow, 0, func(t *testing.T) { w.do(t, "start db-1") }},
		{"clocks are wrong, and keys change", slow, 0, func(t *testing.T) { w.wrongClocks(t, l, b) }},
	} {
		if !t.Run(fault.name, func(t *testing.T) {
			seen := l.during(t, func() { fault.run(t) })
			if seen.longest > fault.limit {
				t.Errorf("a client waited for %s, at most %s is allowed", seen.longest, fault.limit)
			}
			if fault.most > 0 && seen.most > fault.most {
				t.Errorf("a client sent a request %d times, at most %d is allowed", seen.most, fault.most)
			}
		}) {
			return // the cluster is not whole
		}
	}
}

// A key is one of "keymill key list --json".
type key struct {
	KID   string     `json:"kid"`
	Alg   string     `json:"alg"`
	Stage string     `json:"stage"`
	Stop  *time.Time `json:"stop"`
}

// key waits until a key is as it is wanted.
func (w *world) key(t *testing.T, wanted func(key) bool) key {
	t.Helper()
	for end := time.Now().Add(failsafe); ; time.Sleep(200 * time.Millisecond) {
		var keys []key
		if err := json.Unmarshal([]byte(w.keymill(t, 3, "", "key", "list", "--json")), &keys); err != nil {
			t.Fatal(err)
		}
		if n := slices.IndexFunc(keys, wanted); n >= 0 {
			return keys[n]
		}
		if time.Now().After(end) {
			t.Fatalf("no key is as it is wanted: %+v", keys)
		}
	}
}

// parts returns the kid of an access token, and when it was issued.
func parts(token string) (kid string, issued time.Time, err error) {
	header, rest, _ := strings.Cut(token, ".")
	payload, _, _ := strings.Cut(rest, ".")
	var fields struct {
		KID string `json:"kid"`
		IAT int64  `json:"iat"`
	}
	for _, text := range []string{header, payload} {
		raw, err := base64.RawURLEncoding.DecodeString(text)
		if err != nil {
			return "", time.Time{}, err
		}
		if err := json.Unmarshal(raw, &fields); err != nil {
			return "", time.Time{}, err
		}
	}
	return fields.KID, time.Unix(fields.IAT, 0), nil
}

// rotateWithout pauses a node and rotates at node-3, as soon as the spare can sign. The answer names the paused node.
func (w *world) rotateWithout(t *testing.T, node string) {
	t.Helper()
	w.do(t, "pause "+node)
	out, err := w.verb(3, "", "key", "rotate", "--alg", "EdDSA")
	if ready := regexp.MustCompile(`can sign at (\S+Z)`).FindStringSubmatch(out); err != nil && ready != nil {
		at, err := time.Parse(time.RFC3339, ready[1])
		if err != nil {
			t.Fatal(err)
		}
		w.do(t, "resume "+node)
		time.Sleep(time.Until(at) + 2*time.Second)
		w.do(t, "pause "+node)
		out = w.keymill(t, 3, "", "key", "rotate", "--alg", "EdDSA")
	} else if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if !strings.Contains(out, node) {
		t.Errorf("the answer does not name the node that has not read the rotation: %s", out)
	}
}

// pausedAcrossARotation pauses a node, rotates at another one, and asks the paused node for tokens as soon as it runs
// again: it must not sign with the key that has stopped. It returns that key.
func (w *world) pausedAcrossARotation(t *testing.T, b billing) key {
	t.Helper()
	ask := func(node int) (g grant, err error) {
		return g, w.post(t.Context(), node, "/token", "application/x-www-form-urlencoded", string(b), &g)
	}
	if _, err := ask(1); err != nil {
		t.Fatal(err)
	}
	before := w.key(t, func(k key) bool { return k.Alg == "EdDSA" && k.Stage == "active" })
	w.rotateWithout(t, "node-1")
	before = w.key(t, func(k key) bool { return k.KID == before.KID && k.Stop != nil && time.Since(*k.Stop) > time.Second }) // it is shown in seconds
	w.do(t, "resume node-1")
	for signed, end := 0, time.Now().Add(failsafe); signed < 20; {
		g, err := ask(1)
		if err != nil {
			if time.Now().After(end) {
				t.Fatal(err)
			}
			time.Sleep(20 * time.Millisecond)
			continue
		}
		signed++
		if kid, _, err := parts(g.Access); kid == before.KID || err != nil {
			t.Fatalf("the node signed with %s, which has stopped, %v", kid, err)
		}
		if _, err := w.verify.Verify(t.Context(), g.Access); err != nil {
			t.Error(err)
		}
	}
	return before
}
