package crash

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"keymill/integration_test/counts"
	"keymill/integration_test/server"
)

// tokenTTL is short, so that rotated keys leave the key set soon and it stays small.
const tokenTTL = time.Minute

// TestAcknowledgedChangesSurviveKill9 kills the server at random instants, many times with the same
// store, while clients get tokens, clients are added, and keys are rotated by force and revoked.
// After each restart doctor finds no damage, every acknowledged client gets tokens, no acknowledged
// revocation is undone, and every unexpired token verifies, unless its key was to be revoked. At the
// end every acknowledged client has exactly one audit record.
//
// I19.
func TestAcknowledgedChangesSurviveKill9(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	srv := server.Start(t, server.Options{
		Config: "keys:\n  rotate_every: 1h\n  propagation: 2s\njwks:\n  max_age: 1s",
	})
	srv.Run(t, "audience", "add", "orders", "--alg", "EdDSA", "--ttl", tokenTTL.String())
	l := &ledger{srv: srv, first: srv.AddClient(t, "first", "orders"), revoked: map[string]bool{}, doubtful: map[string]bool{}}

	for round := range counts.Of("kill9-rounds") {
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { l.fetchTokens(ctx) })
		wg.Go(func() { l.addClients(ctx, round, "a") })
		wg.Go(func() { l.addClients(ctx, round, "b") })
		wg.Go(func() { l.moveKeys(ctx) })
		time.Sleep(100*time.Millisecond + time.Duration(random.IntN(900))*time.Millisecond)
		await(t, "the first acknowledged changes of a round", func() bool { return l.acknowledged(round) })
		srv.Kill()
		cancel()
		wg.Wait()

		if out, errs, err := srv.Verb(t.Context(), "doctor"); err != nil {
			t.Fatalf("round %d: doctor: %v\n%s%s", round, err, out, errs)
		}
		if err := srv.Start(); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		l.check(t, random)
		if t.Failed() {
			t.Logf("keys at %v:\n%s", time.Now().UTC(), srv.Run(t, "key", "list", "--json"))
			t.Fatalf("round %d failed", round)
		}
	}
	l.checkAudit(t)
	t.Logf("counted: %d kills; acknowledged: %d clients, %d rotations, %d revocations; %d unexpired tokens verified; 0 lost",
		counts.Of("kill9-rounds"), len(l.clients), l.rotations, len(l.revoked), l.verified)
	if len(l.clients) == 0 || l.rotations == 0 || l.verified == 0 {
		t.Error("the test changed too little: no client, no rotation or no token to verify")
	}
}

// A ledger records what the server acknowledged.
type ledger struct {
	srv   *server.Server
	first server.Client

	mu        sync.Mutex      // guards the fields below
	clients   []server.Client // in the order of their acknowledgements
	fresh     int             // index of the first client that was not checked yet
	tokens    []string
	rotations int
	revoked   map[string]bool // kids whose revocation was acknowledged
	doubtful  map[string]bool // kids whose revocation was requested, with or without an answer
	verified  int             // tokens
}

// acknowledged reports whether a kill could lose something: the server acknowledged a client in this
// round and a token, and in the first round a rotation.
func (l *ledger) acknowledged(round int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.clients) > l.fresh && len(l.tokens) > 0 && (round > 0 || l.rotations > 0)
}

func (l *ledger) fetchTokens(ctx context.Context) {
	for ctx.Err() == nil {
		token, err := l.srv.Token(ctx, l.first, "orders")
		if err != nil {
			time.Sleep(time.Millisecond)
			continue
		}
		l.mu.Lock()
		l.tokens = append(l.tokens, token)
		l.mu.Unlock()
	}
}

func (l *ledger) addClients(ctx context.Context, round int, who string) {
	for n := 0; ctx.Err() == nil; n++ {
		var c server.Client
		id := fmt.Sprintf("c-%d-%s-%d", round, who, n)
		if l.verb(ctx, &c, "client", "add", id, "--grant", "client_credentials", "--audience", "orders") {
			l.mu.Lock()
			l.clients = append(l.clients, c)
			l.mu.Unlock()
		}
	}
}

// moveKeys rotates by force again and again, and revokes every third key that stopped signing.
func (l *ledger) moveKeys(ctx context.Context) {
	for n := 1; ctx.Err() == nil; n++ {
		var r struct{ Previous string }
		if !l.verb(ctx, &r, "key", "rotate", "--alg", "EdDSA", "--force") {
			continue
		}
		l.mu.Lock()
		l.rotations++
		l.mu.Unlock()
		if n%3 != 0 {
			continue
		}
		l.mu.Lock()
		l.doubtful[r.Previous] = true
		l.mu.Unlock()
		var answer struct{ KID string }
		if l.verb(ctx, &answer, "key", "revoke", r.Previous) {
			l.mu.Lock()
			l.revoked[r.Previous] = true
			l.mu.Unlock()
		}
	}
}

// verb runs a verb with --json. It returns false if the verb failed or got no answer, because then
// the server promised nothing. The verb does not end with ctx, so that an acknowledgement that is
// under way is still read.
func (l *ledger) verb(ctx context.Context, v any, args ...string) bool {
	out, _, err := l.srv.Verb(context.WithoutCancel(ctx), append(args, "--json")...)
	return err == nil && json.Unmarshal([]byte(out), v) == nil
}

// check compares the restarted server with the ledger.
func (l *ledger) check(t *testing.T, random *rand.Rand) {
	t.Helper()
	keys, err := fetchKeys(t.Context(), l.srv)
	if err != nil {
		t.Fatal(err)
	}
	for kid := range l.revoked {
		if _, ok := keys[kid]; ok {
			t.Errorf("revoked key %s is published again", kid)
		}
	}
	l.tokens = slices.DeleteFunc(l.tokens, func(token string) bool {
		return time.Until(expiryOf(token)) < time.Second || l.doubtful[kidOf(token)]
	})
	for _, token := range l.tokens {
		if err := keys.verify(token); err != nil {
			t.Errorf("an unexpired token of a key that is not revoked: %v", err)
		}
		l.verified++
	}
	asked := slices.Clone(l.clients[l.fresh:])
	for range min(5, l.fresh) {
		asked = append(asked, l.clients[random.IntN(l.fresh)])
	}
	l.fresh = len(l.clients)
	for _, c := range append(asked, l.first) {
		token, err := l.srv.Token(t.Context(), c, "orders")
		if err == nil {
			err = keys.verify(token)
		}
		if err != nil {
			t.Errorf("acknowledged client %s: %v", c.ID, err)
		}
	}
}

// checkAudit requires exactly one record of each acknowledged client.
func (l *ledger) checkAudit(t *testing.T) {
	t.Helper()
	l.srv.Run(t, "client", "add", "last", "--grant", "client_credentials", "--audience", "orders")
	awaitRecord(t, l.srv, "client.add", "last") // then all earlier records are there too
	const newest = 1000                         // records that one answer can have
	seen, records := map[string]int{}, 0
	for line := range strings.Lines(l.srv.Run(t, "audit", "tail", "-n", strconv.Itoa(newest), "--json")) {
		var r struct{ Action, Target string }
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		records++
		if r.Action == "client.add" {
			seen[r.Target]++
		}
	}
	for _, c := range l.clients {
		if n := seen[c.ID]; n > 1 || n == 0 && records < newest {
			t.Errorf("client %s has %d audit records, want 1", c.ID, n)
		}
	}
}
