package diagnose

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/terminal/terminaltest"
	"keymill/issuer"
	"keymill/issuer/api"
	"keymill/issuer/outbox"
	"keymill/issuer/refusal"
	"keymill/issuer/verifiers"
	"keymill/jwks"
	"keymill/keystore"
	"keymill/storage"
	"keymill/storage/audit"
	"keymill/storage/bolt"
	"keymill/storage/sealed"
)

// A lived is the directory of a server that has stopped, with records of every kind.
type lived struct {
	t      *testing.T
	config *config.Config
	master keystore.MasterKey
	file   *bolt.Store       // open, to be read only
	all    map[string]string // its records, with their tags
}

// live makes a store, and does with it what leaves records of every kind.
func live(t *testing.T) *lived {
	t.Helper()
	terminaltest.ClearEnvironment(t)
	c, err := config.Load("", map[string]string{"data": t.TempDir()}, false)
	if err != nil {
		t.Fatal(err)
	}
	w := &lived{t: t, config: c}
	c.Algorithms, c.Issuer = []string{"EdDSA"}, "https://id.example.com"
	w.master, _ = keystore.NewMasterKey()
	mark := must(sealed.OpenMark(c.MarkPath()))
	file := must(bolt.Open(c.Path("keymill.db"), bolt.Options{}))
	keys := keystore.Config{
		Mark: mark, Algorithms: c.Algorithms, RotateEvery: c.RotateEvery, Propagation: c.Propagation, MaxAge: c.MaxAge,
		Master: w.master, CheckRSA: jwks.CheckRSA, Changed: func([]keystore.PublicKey) {},
	}
	must(keystore.Create(t.Context(), file, keys, "uid:0", "test"))
	rings := must(keystore.Open(t.Context(), file, keys))
	w.decide(rings)
	rings.Close()
	file.Close()
	mark.Close()
	w.file = must(bolt.OpenReadOnly(c.Path("keymill.db")))
	t.Cleanup(func() { w.file.Close() })
	w.all = w.records()
	return w
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func (w *lived) decide(rings *keystore.Rings) {
	w.t.Helper()
	ctx, store := w.t.Context(), rings.Store()
	events := must(outbox.Open(ctx, outbox.Config{Store: store, Now: rings.Now, WallTime: rings.WallTime}))
	i := must(issuer.Open(ctx, issuer.Config{URL: w.config.Issuer, Store: store, Keys: rings, Outbox: events}))
	must(i.AddAudience(ctx, api.Audience{Name: "stock", Alg: "EdDSA", Scopes: []string{"read"}}, "uid:0"))
	must(i.AddAudience(ctx, api.Audience{Name: "orders", Alg: "EdDSA"}, "uid:0"))
	must(i.AddClient(ctx, api.NewClient{ID: "web", Public: true, Grants: []string{"refresh_token"}, Audiences: []string{"stock"}, Scopes: []string{"read"}, Origins: []string{"https://app.example.com"}}, "uid:0"))
	must(i.AddClient(ctx, api.NewClient{ID: "billing", Grants: []string{"client_credentials"}, Audiences: []string{"orders"}, Introspect: []string{"stock"}}, "uid:0"))
	must(i.AddClient(ctx, api.NewClient{ID: "former", Grants: []string{"client_credentials"}, Audiences: []string{"orders"}}, "uid:0"))
	must(i.AddUser(ctx, api.NewUser{ID: "7", Name: "alice", Password: "correct horse battery"}, "uid:0"))
	must(i.AddUser(ctx, api.NewUser{ID: "8", Name: "bob"}, "uid:0"))
	must(i.AddUser(ctx, api.NewUser{ID: "9", Name: "carol"}, "uid:0"))
	login := func(user string) issuer.Grant {
		return must(i.StartSession(ctx, issuer.SessionRequest{User: user, Client: "web", Endpoint: issuer.LoginBrowser, From: netip.MustParseAddr("192.0.2.1")}))
	}
	first, second := login("7"), login("7")
	login("8")
	login("9")
	must(i.RevokeSession(ctx, second.Session, "uid:0"))
	none := i.Revoke(ctx, issuer.Credentials{ClientID: "web", Method: "none"}, refusal.Secret(first.AccessToken), netip.MustParseAddr("192.0.2.1"))
	none = errors.Join(none, i.RemoveUser(ctx, "bob", "uid:0"), i.RemoveClient(ctx, "former", "uid:0"))
	// An id that is used again leaves its entry in the index of the clean-up.
	none = errors.Join(none, i.RemoveUser(ctx, "carol", "uid:0"))
	must(i.AddUser(ctx, api.NewUser{ID: "9", Name: "carl"}, "uid:0"))
	must(0, none)
	w.rotate(rings)
	w.pin(rings)
	must(audit.Chain(ctx, store))
	must(i.AddUser(ctx, api.NewUser{ID: "10", Name: "dave"}, "uid:0")) // its audit record waits
}

// pin leaves a verifier that was served the key set, one that was not, and a spare of which was warned.
func (w *lived) pin(rings *keystore.Rings) {
	w.t.Helper()
	r := must(verifiers.Open(w.t.Context(), verifiers.Config{Store: rings.Store(), Keys: rings}))
	must(r.Add(w.t.Context(), api.NewVerifier{Name: "never-came"}, "uid:0"))
	v := must(r.Add(w.t.Context(), api.NewVerifier{Name: "orders-api"}, "uid:0"))
	var keys []jwks.Key
	for _, k := range rings.Published() {
		keys = append(keys, jwks.Key{KID: k.KID, Alg: k.Alg, Public: k.Public})
	}
	if !r.ServedPinned(v.Credential, must(jwks.NewSet(keys...))) {
		w.t.Fatal("the credential of a new verifier is of none")
	}
	ended, cancel := context.WithCancel(w.t.Context())
	cancel()
	must(0, r.Run(ended)) // writes what is not written yet
	must(0, rings.Store().Update(w.t.Context(), func(tx storage.Tx) error {
		return tx.Put("behind", []byte(`{"EdDSA":"a"}`))
	}))
}

// rotate leaves a key that has stopped, one that was revoked, and a reserve.
func (w *lived) rotate(rings *keystore.Rings) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	ended := make(chan error)
	go func() { ended <- rings.Run(ctx) }()
	try := func(step func() error) {
		w.t.Helper()
		for limit := time.After(time.Minute); ; {
			err := step()
			if err == nil {
				return
			}
			select {
			case <-limit:
				w.t.Fatal(err)
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	try(func() error {
		_, err := rings.Rotate(ctx, keystore.RotateRequest{Alg: "EdDSA", Force: true}, "uid:0")
		return err
	})
	try(func() error {
		_, err := rings.Rotate(ctx, keystore.RotateRequest{Alg: "EdDSA", Force: true}, "uid:0")
		return err
	})
	active := func(stage keystore.Stage) (kid string) {
		for _, k := range must(rings.List(ctx)) {
			if k.Stage == stage {
				kid = k.KID
			}
		}
		return kid
	}
	try(func() error {
		_, err := rings.Revoke(ctx, keystore.RevokeRequest{KID: active(keystore.Active)}, "uid:0")
		return err
	})
	try(func() error {
		if active(keystore.Reserve) == "" || active(keystore.Active) == "" || active(keystore.Retiring) == "" {
			return errors.New("no key of every stage")
		}
		return nil
	})
	cancel()
	must(0, <-ended)
}

func (w *lived) records() map[string]string {
	w.t.Helper()
	all := map[string]string{}
	must(0, w.file.View(w.t.Context(), func(r storage.Reader) error {
		for e, err := range r.Scan("", "") {
			if err != nil {
				return err
			}
			all[e.Key] = string(e.Value)
		}
		return nil
	}))
	return all
}

// without returns what doctor finds if the records are missing.
func (w *lived) without(keys ...string) string {
	w.t.Helper()
	s := storage.DryRun(w.file)
	must(0, s.Update(w.t.Context(), func(tx storage.Tx) (err error) {
		for _, key := range keys {
			err = errors.Join(err, tx.Delete(key))
		}
		return err
	}))
	return w.examine(s)
}

// examine returns what doctor finds in a store.
func (w *lived) examine(s storage.Store) string {
	w.t.Helper()
	s = readOnly{s}
	d := &Doctor{Config: w.config, master: w.master, store: s, records: sealed.Unverified(s)}
	d.checkContent(w.t.Context())
	return text(d.findings)
}

// A readOnly cannot be written, as the store that doctor opens.
type readOnly struct{ storage.Store }

func (readOnly) Update(context.Context, func(storage.Tx) error) error { return errors.New("read-only") }

// text returns what is wrong.
func text(f Findings) string {
	var all []string
	for _, c := range f.Checks {
		if !c.OK {
			all = append(all, c.Check+": "+c.Detail)
		}
	}
	return strings.Join(all, "\n")
}

// TestDoctorNamesEachMissingRecord, or one that needs it, whatever its kind. docs/security.md has the
// reasons of those that nothing shows.
//
// I24.
func TestDoctorNamesEachMissingRecord(t *testing.T) {
	w := live(t)
	if found := w.without(); found != "" {
		t.Fatalf("nothing is missing, and doctor finds\n%s", found)
	}
	kinds := map[string]int{}
	for _, key := range slices.Sorted(maps.Keys(w.all)) {
		kind := kindOf(key)
		if kinds[kind]++; kind == "audit/log/" && kinds[kind] > 3 {
			continue // storage/audit tests the others
		}
		found := w.without(key)
		if why := w.unseen(key); why != "" {
			if found != "" {
				t.Errorf("%s is missing, which nothing should show, because %s; doctor finds %s", key, why, found)
			}
		} else if !strings.Contains(found, nameOf(key)) {
			t.Errorf("%s is missing, and doctor finds: %s", key, found)
		}
	}
	for _, kind := range []string{
		"meta", "keyring", "manifest", "manifest/", "clock", "ring/", "retired/", "private/", "certificate/", "tombstone/", "audience/", "client/", "id/", "gone/", "origin/",
		"user/", "login/", "scheme/", "family/", "terms/", "tally/", "sessions/", "denied/", "due/f/", "due/j/", "due/g/", "due/t/",
		"refresh/secret/", "verifier/secret/", "verifier/name/", "served/", "behind", "epoch", "webhook/", "audit/head", "audit/log/", "audit/new/",
	} {
		if kinds[kind] == 0 {
			t.Errorf("no record is of the kind %s", kind)
		}
	}
}

func kindOf(key string) string {
	parts := strings.Split(key, "/")
	switch {
	case len(parts) == 1 || key == "audit/head":
		return key
	case parts[0] == "due":
		return "due/" + parts[2] + "/"
	case parts[0] == "audit" || parts[0] == "refresh" || parts[0] == "verifier":
		return parts[0] + "/" + parts[1] + "/"
	}
	return parts[0] + "/"
}

// nameOf returns what doctor has to say if a record is missing.
func nameOf(key string) string {
	switch parts := strings.Split(key, "/"); kindOf(key) {
	case "meta":
		return "the store has no record of its identity"
	case "audit/head":
		return "the head says that 0 is the last record"
	case "audit/log/":
		return "record " + strings.TrimLeft(parts[2], "0") + " is missing"
	case "due/f/", "due/j/", "due/g/", "due/t/":
		return strings.Join(parts[3:], "/") + " has no entry in the index"
	}
	return key
}

// unseen says why nothing shows that a record is missing.
func (w *lived) unseen(key string) string {
	name := key[strings.LastIndex(key, "/")+1:]
	_, used := w.all["id/"+name]
	_, retired := w.all["retired/EdDSA/"+name]
	switch kind := kindOf(key); {
	case kind == "webhook/":
		return "an event is deleted when it was delivered"
	case kind == "served/":
		return "a verifier that never came has none"
	case kind == "certificate/":
		return "it is made again while the private half exists, and a key can be used without it"
	case kind == "behind":
		return "without it a warning is repeated"
	case kind == "audit/new/":
		return "a record gets its place in the chain later"
	case kind == "private/" && retired:
		return "a key that has stopped signs no more, and its private half is erased"
	case kind == "due/g/" && used:
		return "the id is used again, and the entry leads to nothing"
	}
	return ""
}

// with returns the keys that begin with a prefix and have a word in them.
func (w *lived) with(prefix, word string) (keys []string) {
	w.t.Helper()
	for key := range w.all {
		if strings.HasPrefix(key, prefix) && strings.Contains(key, word) {
			keys = append(keys, key)
		}
	}
	if slices.Sort(keys); len(keys) == 0 {
		w.t.Fatalf("no record %s…%s", prefix, word)
	}
	return keys
}

// TestDoctorOnRecordsThatAreMissingTogether: what else tells of them, and what nothing does, as
// docs/security.md says.
func TestDoctorOnRecordsThatAreMissingTogether(t *testing.T) {
	w := live(t)
	login := func(name string) string { return loginOf(t, w, name) }
	lists := w.with("sessions/", "01/7/web")
	for _, tt := range []struct {
		name, want string // "" if nothing tells of it
		keys       []string
	}{
		{"a user with a password and sessions", "is a session of this user, whom no administrator removed", []string{"user/7", "id/7", login("7")}},
		{"the same", "scheme/", []string{"user/7", "id/7", login("7")}},
		{"user and id", login("7") + " needs it", []string{"user/7", "id/7"}},
		{"user and name", "id/7 needs it", []string{"user/7", login("7")}},
		{"id and name", "user/7 needs it", []string{"id/7", login("7")}},
		{"terms and a list", "terms/", slices.Concat(w.with("terms/", ""), lists)},
		{"a list and its index", "sessions/01/7/web does not lead to family/", slices.Concat(lists, w.with("due/", "/f/"))},
		{"a user without password and sessions", "", []string{"user/10", "id/10", login("10")}},
		{"a revoked token and its entry", "", slices.Concat(w.with("denied/", ""), w.with("due/", "/j/"))},
		{"a removed id and its entry", "", slices.Concat(w.with("gone/", "former"), w.with("due/", "/g/former"))},
		{"a tally and its entry", "", slices.Concat(w.with("tally/", "01/7/web"), w.with("due/", "/t/01/7/web"))},
		{"all of a session", "", slices.Concat(w.with("sessions/", "01/8/web"), familiesOf(t, w, "8"))},
		{"all events", "", w.with("webhook/", "")},
	} {
		if found := w.without(tt.keys...); (found == "") != (tt.want == "") || !strings.Contains(found, tt.want) {
			t.Errorf("%s: want %q, found %s", tt.name, tt.want, found)
		}
	}
}

// loginOf returns the key of the entry that leads to a user.
func loginOf(t *testing.T, w *lived, id string) string {
	t.Helper()
	for key, value := range w.all {
		if strings.HasPrefix(key, "login/") && value[:len(value)-17] == id {
			return key
		}
	}
	t.Fatal("no name leads to", id)
	return ""
}

// familiesOf returns the records of the sessions of a user, and their entries in the index.
func familiesOf(t *testing.T, w *lived, id string) (keys []string) {
	t.Helper()
	for key, value := range w.all {
		if name, ok := strings.CutPrefix(key, "family/"); ok && strings.HasSuffix(value[:len(value)-17], id) {
			keys = append(append(keys, key), w.with("due/", "/f/"+name)...)
		}
	}
	return keys
}

// TestDoctorNamesRecordsThatDoNotFit: counters, indexes and lists that were put back, written with the key.
func TestDoctorNamesRecordsThatDoNotFit(t *testing.T) {
	w := live(t)
	alice := loginOf(t, w, "7")
	for _, tt := range []struct {
		key, value, want string
	}{
		{alice, "10", alice + " does not lead to user/7"},
		{"id/7", "client", "client/7 is missing: id/7 needs it"},
		{"id/billing", "user", "user/billing is missing: id/billing needs it"},
		{w.with("origin/", "")[0], "2", "counts 2 instead of 1"},
		{w.with("scheme/", "")[0], "3", "counts 3 instead of 1"},
		{"origin/https://b.example.com", "1", "origin/https://b.example.com counts 1 instead of 0"},
		{"audience/stock", `{"alg":"EdDSA","ttl":900,"scopes":["read"],"profile":"rfc9068","clients":1}`, "audience/stock counts 1 instead of 2"},
		{"denied/AAAAAAAAAAAAAAAAAAAAAA", "1", "denied/AAAAAAAAAAAAAAAAAAAAAA has no entry in the index"},
		{"due/7fffffff/j/AAAAAAAAAAAAAAAAAAAAAA", "1", "denied/AAAAAAAAAAAAAAAAAAAAAA is missing: due/7fffffff/j/"},
		{"due/7fffffff/g/absent", "1", "gone/absent is missing: due/7fffffff/g/absent leads to it"},
		{"served/strange", `{"last":"2026-01-01T00:00:00Z","kids":["a"],"intervals":[]}`, "served/strange is damaged: no verifier has this name"},
		{"due/7fffffff/t/01/7/app", "1", "tally/01/7/app is missing: due/7fffffff/t/01/7/app leads to it"},
	} {
		s := storage.DryRun(w.file)
		records := must(keystore.Unlock(t.Context(), s, w.master))
		must(0, records.Update(t.Context(), func(tx storage.Tx) error { return tx.Put(tt.key, []byte(tt.value)) }))
		if found := w.examine(s); !strings.Contains(found, tt.want) {
			t.Errorf("%s: want %q, found %s", tt.key, tt.want, found)
		}
	}
}
