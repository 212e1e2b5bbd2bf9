package verifiers

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"keymill/integration_test/server"
)

// A candidate is a service with the results of the matrix so far.
type candidate struct {
	service
	cells map[string]string // column → "yes", "gap" or "NO"
}

// TestTheMatrix: every verifier, with the settings of docs/verify, accepts the issuer's tokens and
// refuses tokens with one fault, except for the gaps that are listed for it. Each of these gaps
// must exist.
func TestTheMatrix(t *testing.T) {
	srv, clients := issuerOf(t, all, slowOfAll, "10m")
	mints := newMints(t, srv, clients)
	for alg, m := range mints {
		t.Run("rows/"+alg, func(t *testing.T) { m.checkRows(t, srv) })
	}
	foreign := foreignTokens(t, srv)
	var candidates []*candidate
	for _, s := range servicesOf(t, all, srv, 0) {
		candidates = append(candidates, &candidate{s, map[string]string{}})
	}
	meetNewKeys(t, srv, candidates, mints)
	each(t, candidates, "accepts", func(t *testing.T, c *candidate) {
		c.accepts(t, mints[c.alg], clients[c.alg].ID)
	})
	each(t, candidates, "refuses", func(t *testing.T, c *candidate) {
		c.refuses(t, "aud", "the issuer's own token for another audience", foreign[c.alg])
		for _, r := range rowsOf(c.alg) {
			c.refuses(t, r.column, r.name, r.token(mints[c.alg]))
		}
		c.want(t, 200, mints[c.alg].genuine, "the valid token, again")
	})
	dropRevokedKeys(t, srv, candidates, mints)
	t.Logf("counted: %-22s%s", "", cells(func(column string) string { return column }))
	for _, c := range candidates {
		c.checkGaps(t)
		t.Logf("counted: %-22s%s", c.name, cells(func(column string) string { return c.cells[column] }))
	}
}

// TestTheSettingsAreNeeded: a verifier that is told only where the keys are also accepts the tokens
// that the settings of docs/verify make it refuse, and no others.
func TestTheSettingsAreNeeded(t *testing.T) {
	srv, clients := issuer(t, slow, "10m")
	mints := newMints(t, srv, clients)
	for _, l := range libraries() {
		if l.settled == nil {
			continue
		}
		l.gaps = slices.Concat(l.gaps, l.settled)
		for _, alg := range l.algs {
			if !slices.Contains(both, alg) {
				continue // TestTheMatrix has shown that the settings do for it what they do for the others
			}
			t.Run(l.name+" "+alg, func(t *testing.T) {
				c := &candidate{l.prepare(t, alg), map[string]string{}}
				var err error
				if c.url, err = l.start(t, settings{issuer: srv.Issuer, audience: c.audience, alg: alg, bare: true}); err != nil {
					didNotStart(t, err)
				}
				for _, r := range rows {
					c.refuses(t, r.column, r.name, r.token(mints[alg]))
				}
				c.checkGaps(t)
			})
		}
	}
}

func together(candidates []*candidate, f func(*candidate)) {
	var wg sync.WaitGroup
	for _, c := range candidates {
		wg.Go(func() { f(c) })
	}
	wg.Wait()
}

func each(t *testing.T, candidates []*candidate, what string, f func(*testing.T, *candidate)) {
	for _, c := range candidates {
		t.Run(what+"/"+c.name, func(t *testing.T) { f(t, c) })
	}
}

// foreignTokens returns tokens of the issuer for an audience that no service here has.
func foreignTokens(t *testing.T, srv *server.Server) map[string]string {
	out := map[string]string{} // algorithm → token
	for _, alg := range all {
		other := "other-" + strings.ToLower(alg)
		srv.Run(t, "audience", "add", other, "--alg", alg, "--profile", profiles[alg])
		out[alg] = token(t, srv, srv.AddClient(t, other+"-client", other), other)
	}
	return out
}

// accepts sends valid tokens. If they are accepted, a later refusal is about the fault of its
// token. Requests without a token and with garbage must be refused.
func (c *candidate) accepts(t *testing.T, m mint, subject string) {
	status, body, err := c.ask(t.Context(), m.genuine)
	var answer struct{ Sub string }
	if json.Unmarshal([]byte(body), &answer); err != nil || status != http.StatusOK || answer.Sub != subject {
		t.Errorf("a valid token: %d %.200s (%v), want 200 and sub %s", status, body, err, subject)
	}
	c.want(t, 200, m.claim(nil), "a valid token that the test has signed")
	if c.alg == "ES256" {
		c.want(t, 200, m.mirrored(), "the other form of the valid token")
	}
	c.want(t, 401, "", "no token")
	c.want(t, 401, "nonsense", "no JWT")
	c.note("valid", map[bool]string{true: "NO", false: "yes"}[t.Failed()])
}

// refuses sends one token with a fault. A verifier with this gap must accept it.
func (c *candidate) refuses(t *testing.T, column, name, token string) {
	t.Helper()
	status, body, err := c.ask(t.Context(), token)
	switch listed := c.hasGap(name); {
	case err == nil && status == 500 && listed && name == breaksOnOKP[0]:
		c.note(column, "gap")
	case err != nil || status != 200 && status != 401 && status != 400: // 400: RFC 6750, section 3.1
		t.Errorf("%s: %d %.200s (%v), want 200, 400 or 401", name, status, body, err)
		c.note(column, "NO")
	case status == 200 && listed:
		c.note(column, "gap")
	case status == 200:
		t.Errorf("%s was accepted: %.200s", name, body)
		c.note(column, "NO")
	case listed:
		t.Errorf("%s is listed as a gap, but was refused: %.200s", name, body)
		c.note(column, "NO")
	default:
		c.note(column, "yes")
	}
}

// meetNewKeys lets the issuer publish a key that no service has seen, after each service has got a
// token with an invented kid. A service finds the key within moments unless the invented kid has
// used up its fetch. All services are called at once and before the other tests, because some
// cooldowns last only ten seconds and must not end before.
func meetNewKeys(t *testing.T, srv *server.Server, candidates []*candidate, mints map[string]mint) {
	invented, fresh := map[string]string{}, map[string]signer{} // by algorithm
	for alg := range mints {
		unknown := mints[alg].key
		unknown.kid = "invented"
		invented[alg], fresh[alg] = mints[alg].by(unknown), newSigner(t, alg, "fresh-"+alg)
	}
	together(candidates, func(c *candidate) {
		c.want(t, 200, mints[c.alg].genuine, "the first token")
		c.want(t, 401, invented[c.alg], "an invented kid")
	})
	for alg := range mints {
		fresh[alg].importTo(t, srv, "--until", time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	}
	together(candidates, func(c *candidate) { c.meets(t, mints[c.alg].by(fresh[c.alg])) })
}

// meets sends a token of a new key until it is accepted. A service with the gap must refuse it for
// two seconds. Another service must accept it within ten.
func (c *candidate) meets(t *testing.T, token string) {
	listed, limit := c.hasGap(slowToNewKeys[0]), 10*time.Second
	if listed {
		limit = 2 * time.Second
	}
	status, body, err := c.ask(t.Context(), token)
	for begin := time.Now(); err == nil && status == 401 && time.Since(begin) < limit; {
		time.Sleep(100 * time.Millisecond)
		status, body, err = c.ask(t.Context(), token)
	}
	switch {
	case err == nil && status == 200 && !listed:
		c.note("new", "yes")
	case err == nil && status == 401 && listed:
		c.note("new", "gap")
	default:
		t.Errorf("%s, %s: %d %.200s (%v), listed as a gap: %v", c.name, slowToNewKeys[0], status, body, err, listed)
		c.note("new", "NO")
	}
}

// dropRevokedKeys revokes the keys and waits until no cache that obeys max-age has them. From then
// on it sends only tokens of these keys, because another token could make a service fetch.
func dropRevokedKeys(t *testing.T, srv *server.Server, candidates []*candidate, mints map[string]mint) {
	var until time.Time
	for alg := range mints {
		if r := revoke(t, srv, mints[alg].key.kid); r.CachedUntil.After(until) {
			until = r.CachedUntil
		}
	}
	time.Sleep(time.Until(until) + maxAge/4)
	each(t, candidates, "revoked", func(t *testing.T, c *candidate) {
		c.refuses(t, "revoked", keepsRevokedKey[0], mints[c.alg].genuine)
	})
}

func (c *candidate) hasGap(row string) bool {
	return slices.ContainsFunc(c.gaps, func(g gap) bool { return slices.Contains(g, row) })
}

// note keeps the worst result of a column.
func (c *candidate) note(column, found string) {
	worse := []string{"", "yes", "gap", "NO"}
	if slices.Index(worse, found) > slices.Index(worse, c.cells[column]) {
		c.cells[column] = found
	}
}

// checkGaps fails for a listed gap that no row tests.
func (c *candidate) checkGaps(t *testing.T) {
	known := slices.Concat(keepsRevokedKey, slowToNewKeys)
	for _, r := range rowsOf("ES256") {
		known = append(known, r.name)
	}
	for _, g := range c.gaps {
		for _, name := range g {
			if !slices.Contains(known, name) {
				t.Errorf("%s lists a gap that no row tests: %s", c.name, name)
			}
		}
	}
}

// cells formats a line of the summary.
func cells(of func(column string) string) string {
	var line strings.Builder
	for _, c := range columns {
		fmt.Fprintf(&line, "%-*s", max(len(c), 3)+1, of(c))
	}
	return line.String()
}
