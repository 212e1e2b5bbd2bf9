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

// A trial is what one service has answered so far.
type trial struct {
	service
	cells map[string]string // column → "yes", "gap" or "NO"
}

// TestTheMatrix: every verifier, as its library has it and with the settings that the
// docs/verify shows, accepts the issuer's tokens and refuses what differs from them in one
// thing, except for the gaps that it states. Each of those is shown to be there.
func TestTheMatrix(t *testing.T) {
	srv, clients := issuer(t, slow, "10m")
	mints := newMints(t, srv, clients)
	for alg, m := range mints {
		t.Run("rows/"+alg, func(t *testing.T) { m.wrongInOneThing(t, srv) })
	}
	foreign := foreignTokens(t, srv)
	var trials []*trial
	for _, s := range services(t, srv, 0) {
		trials = append(trials, &trial{s, map[string]string{}})
	}
	meetNewKeys(t, srv, trials, mints)
	each(t, trials, "accepts", func(t *testing.T, tr *trial) {
		tr.accepts(t, mints[tr.alg], clients[tr.alg].ID)
	})
	each(t, trials, "refuses", func(t *testing.T, tr *trial) {
		tr.refuses(t, "aud", "the issuer's own token for another audience", foreign[tr.alg])
		for _, r := range rows {
			tr.refuses(t, r.column, r.name, r.token(mints[tr.alg]))
		}
		tr.want(t, 200, mints[tr.alg].genuine, "the good token, again")
	})
	surviveRevocation(t, srv, trials, mints)
	t.Logf("counted: %-22s%s", "", cells(func(column string) string { return column }))
	for _, tr := range trials {
		tr.stated(t)
		t.Logf("counted: %-22s%s", tr.name, cells(func(column string) string { return tr.cells[column] }))
	}
}

// TestTheSettingsAreNeeded: a verifier that is told nothing but where the keys are also
// accepts what the settings of docs/verify would have it refuse, and only that.
func TestTheSettingsAreNeeded(t *testing.T) {
	srv, clients := issuer(t, slow, "10m")
	mints := newMints(t, srv, clients)
	for _, m := range makers() {
		if m.settled == nil {
			continue
		}
		m.gaps = slices.Concat(m.gaps, m.settled)
		for _, alg := range m.algs {
			t.Run(m.name+" "+alg, func(t *testing.T) {
				tr := &trial{m.prepare(t, alg), map[string]string{}}
				var err error
				if tr.url, err = m.start(t, settings{issuer: srv.Issuer, audience: tr.audience, alg: alg, bare: true}); err != nil {
					unless(t, err)
				}
				for _, r := range rows {
					tr.refuses(t, r.column, r.name, r.token(mints[alg]))
				}
				tr.stated(t)
			})
		}
	}
}

func together(trials []*trial, f func(*trial)) {
	var wg sync.WaitGroup
	for _, tr := range trials {
		wg.Go(func() { f(tr) })
	}
	wg.Wait()
}

func each(t *testing.T, trials []*trial, what string, f func(*testing.T, *trial)) {
	for _, tr := range trials {
		t.Run(what+"/"+tr.name, func(t *testing.T) { f(t, tr) })
	}
}

// foreignTokens are the issuer's, for an audience that no service here has.
func foreignTokens(t *testing.T, srv *server.Server) map[string]string {
	out := map[string]string{} // algorithm → token
	for _, alg := range both {
		other := "other-" + strings.ToLower(alg)
		srv.Run(t, "audience", "add", other, "--alg", alg, "--profile", profiles[alg])
		out[alg] = token(t, srv, srv.AddClient(t, other+"-client", other), other)
	}
	return out
}

// accepts shows the good tokens: what is refused later is refused for what is wrong
// with it. What is no token at all is refused as well.
func (tr *trial) accepts(t *testing.T, m mint, subject string) {
	status, body, err := tr.ask(t.Context(), m.genuine)
	var answer struct{ Sub string }
	if json.Unmarshal([]byte(body), &answer); err != nil || status != http.StatusOK || answer.Sub != subject {
		t.Errorf("a good token: %d %.200s (%v), want 200 and sub %s", status, body, err, subject)
	}
	tr.want(t, 200, m.claim(nil), "a good token that the test has signed")
	tr.want(t, 401, "", "no token")
	tr.want(t, 401, "nonsense", "no JWT")
	tr.note("valid", map[bool]string{true: "NO", false: "yes"}[t.Failed()])
}

// refuses shows one bad token. A verifier that states a gap has to accept it.
func (tr *trial) refuses(t *testing.T, column, name, token string) {
	t.Helper()
	status, body, err := tr.ask(t.Context(), token)
	switch stated := tr.hasGap(name); {
	case err == nil && status == 500 && stated && name == breaksOnOKP[0]:
		tr.note(column, "gap")
	case err != nil || status != 200 && status != 401 && status != 400: // 400: RFC 6750, section 3.1
		t.Errorf("%s: %d %.200s (%v), want an answer", name, status, body, err)
		tr.note(column, "NO")
	case status == 200 && stated:
		tr.note(column, "gap")
	case status == 200:
		t.Errorf("%s was accepted: %.200s", name, body)
		tr.note(column, "NO")
	case stated:
		t.Errorf("%s is a stated gap, and was refused: %.200s", name, body)
		tr.note(column, "NO")
	default:
		tr.note(column, "yes")
	}
}

// meetNewKeys lets the issuer publish a key that no service has seen, after a kid that
// somebody made up. Where nothing limits the fetches, or something with patience does,
// the key is known within moments. All services are asked at once and before anything
// else: some cooldowns last ten seconds, and must not pass by themselves meanwhile.
func meetNewKeys(t *testing.T, srv *server.Server, trials []*trial, mints map[string]mint) {
	madeUp, fresh := map[string]string{}, map[string]signer{} // by algorithm
	for _, alg := range both {
		unknown := mints[alg].key
		unknown.kid = "made-up"
		madeUp[alg], fresh[alg] = mints[alg].by(unknown), newSigner(t, alg, "fresh-"+alg)
	}
	together(trials, func(tr *trial) {
		tr.want(t, 200, mints[tr.alg].genuine, "the first token")
		tr.want(t, 401, madeUp[tr.alg], "a made-up kid")
	})
	for _, alg := range both {
		fresh[alg].importTo(t, srv, "--until", time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	}
	together(trials, func(tr *trial) { tr.meets(t, mints[tr.alg].by(fresh[tr.alg])) })
}

// meets shows a token of a new key until it is accepted. A stated gap has to hold for
// two seconds, an unstated one has ten to prove that there is none.
func (tr *trial) meets(t *testing.T, token string) {
	stated, patience := tr.hasGap(slowToNewKeys[0]), 10*time.Second
	if stated {
		patience = 2 * time.Second
	}
	status, body, err := tr.ask(t.Context(), token)
	for begin := time.Now(); err == nil && status == 401 && time.Since(begin) < patience; {
		time.Sleep(100 * time.Millisecond)
		status, body, err = tr.ask(t.Context(), token)
	}
	switch {
	case err == nil && status == 200 && !stated:
		tr.note("new", "yes")
	case err == nil && status == 401 && stated:
		tr.note("new", "gap")
	default:
		t.Errorf("%s, %s: %d %.200s (%v), stated as a gap: %v", tr.name, slowToNewKeys[0], status, body, err, stated)
		tr.note("new", "NO")
	}
}

// surviveRevocation takes the keys away and waits until no cache that obeys max-age has
// them. Only their own tokens are shown from then on: anything else could make a
// service fetch.
func surviveRevocation(t *testing.T, srv *server.Server, trials []*trial, mints map[string]mint) {
	var until time.Time
	for _, alg := range both {
		if r := revoke(t, srv, mints[alg].key.kid); r.CachedUntil.After(until) {
			until = r.CachedUntil
		}
	}
	time.Sleep(time.Until(until) + maxAge/4)
	each(t, trials, "revoked", func(t *testing.T, tr *trial) {
		tr.refuses(t, "revoked", keepsRevokedKey[0], mints[tr.alg].genuine)
	})
}

func (tr *trial) hasGap(row string) bool {
	return slices.ContainsFunc(tr.gaps, func(g gap) bool { return slices.Contains(g, row) })
}

// note keeps the worst of what was found in a column.
func (tr *trial) note(column, found string) {
	worse := []string{"", "yes", "gap", "NO"}
	if slices.Index(worse, found) > slices.Index(worse, tr.cells[column]) {
		tr.cells[column] = found
	}
}

// stated fails for a gap that no row has looked for: it would be a claim without proof.
func (tr *trial) stated(t *testing.T) {
	known := slices.Concat(keepsRevokedKey, slowToNewKeys)
	for _, r := range rows {
		known = append(known, r.name)
	}
	for _, g := range tr.gaps {
		for _, name := range g {
			if !slices.Contains(known, name) {
				t.Errorf("%s states a gap that nothing proves: %s", tr.name, name)
			}
		}
	}
}

// cells lays a line of the summary out.
func cells(of func(column string) string) string {
	var line strings.Builder
	for _, c := range columns {
		fmt.Fprintf(&line, "%-*s", max(len(c), 3)+1, of(c))
	}
	return line.String()
}
