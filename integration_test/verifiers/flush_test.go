package verifiers

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"keymill/integration_test/server"
)

// A sight says when a service with the settings of its page refuses the tokens of a revoked key. Its words are in the
// table of docs/verify.
type sight struct {
	alone string        // after `key revoke` alone: as soon as max-age is over, or not then
	flush string        // after a flush
	known time.Duration // at the latest after this time a token of the flushed key is accepted
}

// The column "sees a revocation".
var (
	seesAlone    = sight{alone: atMaxAge, flush: atNextToken, known: 5 * time.Second}
	seesAFlush   = sight{alone: notAlone, flush: atNextToken}
	seesInTime   = sight{alone: notAlone, flush: atNextToken + ", within 30 s", known: 30 * time.Second}
	seesInTen    = sight{alone: notAlone, flush: "depends on your code", known: 10 * time.Second}
	seesOnce     = sight{alone: notAlone, flush: atNextToken + ", once in 5 min"}
	seesInMaxAge = sight{alone: notAlone, flush: atNextToken + ", once in 4.5 min"}
	keepsItsKey  = sight{alone: notAlone, flush: "no"}
	seesNoKid    = sight{alone: notAlone, flush: refusesNew}
)

const (
	atMaxAge    = "at max-age"
	notAlone    = "no"
	atNextToken = "at the next token"
	refusesNew  = "no, and refuses new tokens until it fetches"
)

// forgets reports whether the service refuses the revoked key once it has accepted a token of the flushed one.
func (s sight) forgets() bool { return s.flush != keepsItsKey.flush && s.flush != refusesNew }

// TestWhatSeesARevocation: with the settings of its page and a small max-age, each verifier refuses a revoked key when the
// table says, and not before. After `key revoke` alone the tokens that arrive are of the spare, which most know. A flush brings
// tokens of a key that none knows.
func TestWhatSeesARevocation(t *testing.T) {
	t.Parallel() // it waits for cooldowns
	srv, clients := issuer(t, slow, "10m")
	withScope(t, srv, both)
	timer := time.Now().Add(time.Minute) // of a program that reads files; not before
	running := append(oneOfEach(services(t, srv, 0)), rabbitmq().service(t, srv, "EdDSA", 0))
	for alg := range clients {
		awaitSpare(t, srv, alg)
	}
	first, second := map[string]string{}, map[string]string{} // algorithm → token of a key that is revoked
	for alg, c := range clients {
		first[alg] = token(t, srv, c, audienceOf(alg))
	}
	inTurn(running, func(s service) { s.want(t, 200, first[s.alg], "before the revocation") })
	until := time.Time{}
	for alg, c := range clients {
		if r := revoke(t, srv, kidOf(first[alg])); r.CachedUntil.After(until) {
			until = r.CachedUntil
		}
		second[alg] = token(t, srv, c, audienceOf(alg))
	}
	inTurn(running, func(s service) { s.want(t, 200, second[s.alg], "the spare") })
	time.Sleep(time.Until(until) + maxAge/4)
	inTurn(running, func(s service) {
		s.want(t, 200, second[s.alg], "the spare when max-age is over")
		status, body, err := s.ask(t.Context(), first[s.alg])
		if s.reloads && time.Now().After(timer) {
			t.Logf("%s may have fetched the set in the meantime", s.name)
		} else if want := map[bool]int{true: 401, false: 200}[s.sight.alone == atMaxAge]; status != want {
			t.Errorf("%s, the revoked key when max-age is over: %d %.200s (%v), want %d", s.name, status, body, err, want)
		}
	})

	third := map[string]string{} // algorithm → token of the flushed key
	for alg, c := range clients {
		awaitStage(t, srv, alg, "reserve")
		r := revoke(t, srv, kidOf(second[alg]), "--flush")
		if third[alg] = token(t, srv, c, audienceOf(alg)); kidOf(third[alg]) != r.Successor || r.Was != "active" || r.UnknownUntil == nil {
			t.Fatalf("%s: %+v, and %s signs", alg, r, kidOf(third[alg]))
		}
	}
	var wg sync.WaitGroup
	for _, s := range running {
		if s.reloads && time.Until(timer) < 5*time.Second {
			t.Logf("%s may fetch the set in the meantime", s.name)
			continue
		}
		wg.Go(func() { s.seesFlush(t, third[s.alg], first[s.alg], second[s.alg]) })
	}
	wg.Wait()
}

// seesFlush sends a token of the flushed key until it is accepted, and then those of the revoked keys.
func (s service) seesFlush(t *testing.T, flushed string, revoked ...string) {
	limit := s.sight.known + 20*time.Second // for a slow machine
	if s.sight.flush == refusesNew {
		limit = 2 * time.Second
	}
	status, begun := 401, time.Now()
	for ; status == 401 && time.Since(begun) < limit; time.Sleep(100 * time.Millisecond) {
		var body string
		var err error
		if status, body, err = s.ask(t.Context(), flushed); err != nil || status != 200 && status != 401 {
			t.Errorf("%s, the flushed key: %d %.200s (%v)", s.name, status, body, err)
			return
		}
	}
	t.Logf("counted: %-20s %-20s %-45s %5.1f s", s.name, s.sight.alone, s.sight.flush, time.Since(begun).Seconds())
	if want := map[bool]int{true: 401, false: 200}[s.sight.flush == refusesNew]; status != want {
		t.Errorf("%s, the flushed key after %v: %d, want %d", s.name, time.Since(begun), status, want)
		return
	}
	for _, token := range revoked {
		s.want(t, map[bool]int{true: 401, false: 200}[s.sight.forgets()], token, "a revoked key after a token of the flushed one")
	}
}

// oneOfEach returns one service of each library: what it caches does not depend on the algorithm.
func oneOfEach(all []service) []service {
	return slices.CompactFunc(all, func(a, b service) bool { return a.library.name == b.library.name })
}

// inTurn calls f for all services at once, so that none has to wait for a slow one.
func inTurn(all []service, f func(service)) {
	var wg sync.WaitGroup
	for _, s := range all {
		wg.Go(func() { f(s) })
	}
	wg.Wait()
}

func awaitStage(t *testing.T, srv *server.Server, alg, stage string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		var keys []key
		srv.RunJSON(t, &keys, "key", "list")
		if slices.ContainsFunc(keys, func(k key) bool { return k.Alg == alg && k.Stage == stage }) {
			return
		}
	}
	t.Fatalf("%s has no %s", alg, stage)
}

// TestTheTableSaysWhatSeesARevocation: the column has the words that the test above proves.
func TestTheTableSaysWhatSeesARevocation(t *testing.T) {
	rows := tableOfVerifiers(t)
	told := map[string]bool{}
	for _, l := range append(libraries(), rabbitmq(), dovecot(), kubernetes(nil)) {
		cells := rows[l.page()]
		told[l.page()] = true
		if want := l.sight.alone + "; " + l.sight.flush; !slices.Contains(cells, want) {
			t.Errorf("%s: the row of %s.md has no cell %q: %q", l.name, l.page(), want, cells)
		}
	}
	for name := range rows {
		if !told[name] {
			t.Errorf("no service runs the verifier of %s.md", name)
		}
	}
}

// TestTheTableSaysWhichAlgorithmsAreKnown: its columns have what TestTheMatrix and TestAMissingAlgorithmIsRefused prove.
func TestTheTableSaysWhichAlgorithmsAreKnown(t *testing.T) {
	rows := tableOfVerifiers(t)
	for _, l := range append(libraries(), rabbitmq(), dovecot(), kubernetes(nil)) {
		cells := rows[l.page()]
		for i, alg := range []string{"RS256", "EdDSA", "ES256"} {
			want := map[bool]string{true: "yes", false: "no"}[slices.Contains(l.algs, alg)]
			if len(cells) < 5 || cells[1+i] != want {
				t.Errorf("%s, %s: the row of %s.md has %q, want %s", l.name, alg, l.page(), cells, want)
			}
		}
	}
}

// tableOfVerifiers returns the rows of docs/verify/README.md by their page.
func tableOfVerifiers(t *testing.T) map[string][]string {
	t.Helper()
	root, err := server.Root()
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(root, "docs/verify/README.md"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(page), "| verifier | RS256 | EdDSA | ES256 |") {
		t.Error("the columns of the table are others")
	}
	rows := map[string][]string{} // page → cells
	for _, line := range strings.Split(string(page), "\n") {
		cells := strings.Split(strings.Trim(line, "| "), " | ")
		if link := regexp.MustCompile(`\]\(([a-z0-9_-]+)\.md\)`).FindStringSubmatch(cells[0]); len(cells) > 5 && link != nil {
			rows[link[1]] = cells
		}
	}
	return rows
}

// page returns the name of the page in docs/verify.
func (l library) page() string {
	pages := map[string]string{"keymill": "go-jwks", "keymill-grpc": "go-jwks", "express-bearer": "express-oauth2-jwt-bearer",
		"fastify-jwt": "fast-jwt", "apache": "mod_auth_openidc"}
	if page, other := pages[l.name]; other {
		return page
	}
	return l.name
}
