package console

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"keymill/cmd/keymill/internal/adminapi"
	"keymill/issuer/api"
)

// actions returns everything that the console can change.
func (s *site) actions() []action {
	return []action{
		{"key/rotate", s.askRotate},
		{"key/revoke", s.askRevoke},
		{"client/disable", s.askClient(clientChanges["disable"])},
		{"client/enable", s.askClient(clientChanges["enable"])},
		{"client/secret", s.askSecret},
		{"client/logout", s.askClient(clientChanges["logout"])},
		{"client/remove", s.askClient(clientChanges["remove"])},
		{"user/disable", s.askUser(userChanges["disable"])},
		{"user/enable", s.askUser(userChanges["enable"])},
		{"user/logout", s.askUser(userChanges["logout"])},
		{"user/unblock", s.askUser(userChanges["unblock"])},
		{"user/remove", s.askUser(userChanges["remove"])},
		{"verifier/add", s.askAddVerifier},
		{"verifier/remove", s.askRemoveVerifier},
		{"session/revoke", s.askSession},
	}
}

// keyLinks returns the links of the page of keys that lead to a change.
func keyLinks(r *request, keys []api.Key) []cell {
	var links []cell
	seen := map[string]bool{}
	for _, k := range keys {
		if !seen[k.Alg] && (k.Stage == "active" || k.Stage == "spare") {
			seen[k.Alg] = true
			links = append(links, cell{Text: "Rotate " + short(k.Alg) + "…", Href: r.to("key/rotate", "alg", k.Alg)})
		}
	}
	if len(keys) > 0 {
		links = append(links, cell{Text: "Revoke a key…", Href: r.to("key/revoke")})
	}
	return links
}

// stageOf returns the first key of an algorithm in a stage, nil if there is none.
func stageOf(keys []api.Key, alg, stage string) *api.Key {
	for i, k := range keys {
		if k.Alg == alg && k.Stage == stage {
			return &keys[i]
		}
	}
	return nil
}

// keyFact names a key.
func keyFact(name string, k *api.Key) fact {
	if k == nil {
		return fact{name, cell{Text: "none", Kind: "dull"}}
	}
	return fact{name, cell{Text: whole(k.KID), Kind: "id"}}
}

// keysState is what a question about keys depends on.
func keysState(keys []api.Key, alg string) string {
	var b strings.Builder
	for _, k := range keys {
		if k.Alg == alg {
			fmt.Fprintf(&b, "%s %s\n", k.KID, k.Stage)
		}
	}
	return b.String()
}

// readKeys returns the keys and the status of the server.
func (s *site) readKeys(r *request) ([]api.Key, api.Status, error) {
	status, err := s.status(r)
	if err != nil {
		return nil, api.Status{}, err
	}
	keys, err := get[[]api.Key](r, s, "keys", nil)
	return keys, status, err
}

func (s *site) askRotate(r *request) (*question, error) {
	alg, force, flush := r.field("alg"), r.field("force") != "", r.field("flush") != ""
	keys, status, err := s.readKeys(r)
	if err != nil {
		return nil, err
	}
	active, spare, now := stageOf(keys, alg, "active"), stageOf(keys, alg, "spare"), clock(r, status)
	if active == nil && spare == nil {
		return nil, badInput{"There is no key of the algorithm " + whole(alg) + "."}
	}
	q := &question{
		Title: "Rotate " + short(alg), Button: "Rotate " + short(alg), back: r.to("keys"), state: keysState(keys, alg),
		Words: []string{"The spare signs from now on, before its time. The key that signs now stays published until its last token has expired."},
		Facts: []fact{keyFact("Signs now", active), keyFact("Signs next", spare)},
	}
	if spare != nil {
		q.Facts = append(q.Facts, fact{"Published", instant(spare.Publish, now)})
		if wait, err := time.ParseDuration(status.Propagation); err == nil && spare.Publish != nil {
			ready := spare.Publish.Add(wait)
			q.Facts = append(q.Facts, fact{"Allowed from", instant(&ready, now)})
		}
		q.Facts = append(q.Facts, fact{"Served to pinned verifiers", served(spare.Reach)}, fact{"The server waits for", waitedFor(spare.Reach, now)})
	}
	words := []string{"key", "rotate", "--alg", alg}
	switch {
	case flush:
		q.Type, q.Button = "flush", "Let the reserve sign"
		words, force = append(words, "--flush"), false
		q.Words = []string{flushWords + " The key that signs now stays published until its last token has expired. The server waits for no one."}
		q.Facts = []fact{keyFact("Signs now", active), keyFact("Signs instead", stageOf(keys, alg, "reserve")), keyFact("Signs next", spare)}
	case force:
		q.Type, q.Button = "force", "Force the rotation"
		words = append(words, "--force")
		q.Words = append(q.Words, "You force it: the server does not wait. Services that have not fetched the new key refuse its tokens until they do.")
	default:
		q.Words = append(q.Words, "The server refuses if the spare was not published for long enough, or if a pinned verifier that comes regularly was not served it. It may allow it later than shown, for example after it stood still.")
		q.Links = []cell{{Text: "Force it…", Href: r.to("key/rotate", "alg", alg, "force", "1")},
			{Text: "Flush verifiers…", Href: r.to("key/rotate", "alg", alg, "flush", "1")}}
	}
	q.command = func(string) string { return s.command(words...) }
	q.do = func(ctx context.Context, _ string) (*done, error) {
		answer, _, err := adminapi.Ask[api.Rotation](ctx, s.server, http.MethodPost, "keys/rotate", api.RotateKeyRequest{Alg: alg, Force: force, Flush: flush})
		if err == nil && answer.KID == "" {
			err = errUnclear
		}
		note := "Rotated: " + whole(answer.KID) + " signs now."
		if answer.UnknownUntil != nil {
			note += " " + refusedUntil(answer.UnknownUntil)
		}
		return &done{note: note}, err
	}
	return q, nil
}

// flushWords says what a flush does and costs.
const flushWords = "The reserve signs from now on, and the spare stays next. No service has the reserve, so those that fetch the key set only for an unknown kid " +
	"fetch it and forget keys that were revoked. A service that may not fetch yet refuses new tokens until it may."

func (s *site) askRevoke(r *request) (*question, error) {
	keys, status, err := s.readKeys(r)
	if err != nil {
		return nil, err
	}
	kid := r.field("kid")
	if kid == "" {
		q := &question{Title: "Revoke a key", Words: []string{"Use it if a private key may have leaked. Choose the key; the next page says what will happen."}, back: r.to("keys")}
		q.Find.Path, q.Button = r.to("key/revoke"), "Go on"
		q.Choice.Label = "Key"
		for _, k := range keys {
			q.Choice.Options = append(q.Choice.Options, option{whole(k.KID), short(k.KID) + " (" + short(k.Alg) + ", " + short(k.Stage) + ")"})
		}
		q.command = func(string) string { return s.command("key", "list") }
		return q, nil
	}
	var key *api.Key
	for i := range keys {
		if keys[i].KID == kid {
			key = &keys[i]
		}
	}
	if key == nil {
		return nil, badInput{"There is no key " + whole(kid) + "."}
	}
	now := clock(r, status)
	q := &question{
		Title: "Revoke a key", Type: "revoke", Button: "Revoke the key", back: r.to("keys"), state: keysState(keys, key.Alg),
		Words: []string{"The key leaves the key set at once, and its private half the store. Services refuse every token that it signed as soon as their caches expire. It cannot be undone."},
		Facts: []fact{keyFact("Key", key), {"Algorithm", words(key.Alg)}, {"Stage", words(key.Stage)}},
	}
	holders := none()
	if key.Reach != nil {
		holders = cell{Text: fmt.Sprintf("%d of %d", key.Reach.Served, key.Reach.Pinned)}
	}
	q.Facts = append(q.Facts, fact{"Pinned verifiers that hold it", holders}, fact{"Caches may hold it until", s.cachedUntil(key, status, now)})
	flush, words := r.field("flush") != "", []string{"key", "revoke"}
	if flush {
		q.Button, words = "Revoke and flush", append(words, "--flush")
		q.Facts = append(q.Facts, keyFact("Signs from now on", stageOf(keys, key.Alg, "reserve")))
		q.Words = append(q.Words, flushWords+" If that is not possible, the key is not revoked.")
	} else if key.Stage == "active" {
		spare := stageOf(keys, key.Alg, "spare")
		q.Facts = append(q.Facts, keyFact("Signs next", spare))
		if spare != nil {
			q.Facts = append(q.Facts, fact{"It was served to pinned verifiers", served(spare.Reach)})
		}
		q.Words = append(q.Words, "The next key signs at once. Services that have not fetched it refuse its tokens until they do.")
	} else {
		q.Facts = append(q.Facts, keyFact("Signs on", stageOf(keys, key.Alg, "active")))
	}
	if !flush {
		q.Links = []cell{{Text: "Flush verifiers too…", Href: r.to("key/revoke", "kid", kid, "flush", "1")}}
	}
	q.command = func(string) string { return s.commandAbout(kid, words...) }
	q.do = func(ctx context.Context, _ string) (*done, error) {
		answer, _, err := adminapi.Ask[api.Revocation](ctx, s.server, http.MethodPost, "keys/revoke", api.RevokeKeyRequest{KID: kid, Flush: flush})
		if err == nil && answer.KID != kid {
			err = errUnclear
		}
		return &done{note: revoked(answer)}, err
	}
	return q, nil
}

// cachedUntil says how long caches may hold a key that is revoked now.
func (s *site) cachedUntil(k *api.Key, status api.Status, now time.Time) cell {
	age, err := time.ParseDuration(status.MaxAge)
	if err != nil || k.Stage == "reserve" {
		return none()
	}
	until := now.Add(age)
	return instant(&until, now)
}

// revoked says what a revocation did, as the command does.
func revoked(r api.Revocation) string {
	note := "Revoked " + whole(r.KID) + ", which was " + short(r.Was) + "."
	if len(r.Also) > 0 {
		note += " The same key was revoked under other kids: " + some(r.Also) + "."
	}
	if r.CachedUntil != nil {
		note += " Services with a cached key set may accept its tokens until " + stamp(r.CachedUntil) + "."
	}
	switch {
	case r.Successor != "":
		note += " " + whole(r.Successor) + " signs now."
	case r.Was == "active":
		note += " No key signs until the next one is made."
	}
	if r.UnknownUntil != nil {
		note += " " + refusedUntil(r.UnknownUntil)
	}
	var holders []string
	for _, h := range r.Holders {
		holders = append(holders, h.Name)
	}
	if len(holders) > 0 {
		note += " Pinned verifiers that may hold the old key: " + some(holders) + "."
	}
	if r.Observed > 0 {
		note += " Other addresses that may hold it: " + strconv.Itoa(r.Observed) + "."
	}
	return warn(note, r.Warnings)
}

// refusedUntil says how long services may not know a key that signs.
func refusedUntil(t *time.Time) string {
	return "Services with a cached key set may refuse its tokens until " + stamp(t) + "."
}

func stamp(t *time.Time) string { return instant(t, *t).Text }

// some names the first entries of a list, and says how many more there are.
func some(items []string) string {
	const most = 20
	var names []string
	for _, item := range items[:min(len(items), most)] {
		names = append(names, whole(item))
	}
	text := strings.Join(names, ", ")
	if rest := len(items) - most; rest > 0 {
		text += ", and " + strconv.Itoa(rest) + " more"
	}
	return text
}
