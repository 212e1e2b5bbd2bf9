package endpoint

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"keymill/issuer"
	"keymill/issuer/endpoint/limit"
	"keymill/issuer/refusal"
	"keymill/storage"
)

// A probe is a request with the status of its answer while no record is damaged.
type probe struct {
	status int
	send   func() answer
}

// A damagedWorld has a record of every kind, and requests that need them.
type damagedWorld struct {
	*world
	probes map[string]probe  // those on the admin socket begin with "admin"
	needs  map[string]string // key of a record → the probes that need it, separated by commas
	whole  map[string][]byte // all records that probes change
}

const tagBytes = 17

// newDamagedWorld uses sessions of alice (7) and bob (8) at client web, and one of alice at server.
func newDamagedWorld(t *testing.T) *damagedWorld {
	d := &damagedWorld{world: newWorld(t).withAlice()}
	ctx := t.Context()
	d.user("bob", "8")
	d.user("eve", "9")
	server, reader := d.confidential("server"), d.confidential("reader")
	if err := errors.Join(d.issuer.RemoveUser(ctx, "9", "test"), d.issuer.RevokeAllSessions(ctx, "test")); err != nil {
		t.Fatal(err)
	}
	begin := func(user, client string) issuer.Grant {
		g, err := d.issuer.StartSession(ctx, issuer.SessionRequest{User: user, Client: client, Endpoint: issuer.LoginBrowser})
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second + 10*time.Millisecond)))
	mine, denied, other, at := begin("7", "web"), begin("7", "web"), begin("8", "web"), begin("7", "server")
	service := d.token(d.post(d.good()))
	is(t, "revoke", d.ask("/revoke", denied.AccessToken, "client_id=web"), 200, "")
	d.publicProbes(mine, denied, other)
	d.clientProbes(server, reader, mine, denied, other, at, service)
	d.adminProbes(mine)
	d.whole = d.stored(func(string) bool { return true })
	jti, _ := segment(t, denied.AccessToken, 1)["jti"].(string)
	login := "simplejwt login, browser login"
	token := "refresh, simplejwt refresh, simplejwt verify, simplejwt verify access, browser refresh"
	end := "blacklist, browser logout, revoke, admin revoke session"
	d.needs = map[string]string{
		"audience/orders": "client_credentials, refresh, refresh at server, refresh of another, simplejwt refresh, simplejwt verify, browser refresh, introspect refresh, admin why, " + login,
		"client/billing":  "client_credentials, revoke of a service, introspect of a service",
		"client/server":   "refresh at server, introspect refresh",
		"client/reader":   "introspect, introspect denied, introspect of another, introspect of a service",
		"client/web": "refresh of another, simplejwt verify denied, revoke access, revoke denied, revoke of another, introspect, introspect of another, " +
			"admin client, admin why, " + token + ", " + end + ", " + login,
		"user/7": "refresh at server, revoke access, introspect, introspect refresh, admin user, admin sessions of user, admin disable, admin logout, " +
			"admin remove, admin why, " + token + ", " + end + ", " + login,
		d.loginKeyOf("7"):           "admin user, " + login,
		"id/7":                      "admin add",
		"gone/9":                    "admin add again",
		"family/" + mine.Session:    "revoke access, introspect, admin why, " + token + ", " + end,
		"family/" + other.Session:   "refresh of another, revoke of another, introspect of another",
		"family/" + at.Session:      "refresh at server, introspect refresh",
		"sessions/01/7/web":         login,
		"denied/" + jti:             "simplejwt verify denied, introspect denied, revoke denied",
		"tally/01/7/web":            "revoke access, " + login,
		"origin/" + appOrigin:       "preflight",
		"scheme/argon2id-19456-2-1": "admin remove",
		"refresh/secret/001":        "",
		"ring/EdDSA":                "",
		"audit/new":                 "",
		"due":                       "",
		"epoch": "readyz, refresh at server, refresh of another, revoke access, revoke of another, introspect, introspect of another, " +
			"introspect of a service, introspect refresh, admin why, admin sessions, admin sessions of user, " + token + ", " + end + ", " + login,
	}
	return d
}

func (d *damagedWorld) publicProbes(mine, denied, other issuer.Grant) {
	get := func(path string) func() answer { return func() answer { return d.send("GET", path, "") } }
	simplejwt := func(path, member string, token refusal.Secret) func() answer {
		return func() answer { return d.postJSON(path, map[string]string{member: string(token)}) }
	}
	cookie := "Cookie: __Host-keymill-web=" + string(mine.Refresh)
	login := func(path string) func() answer {
		return func() answer {
			d.server.passwords = limit.NewPasswordLimiter(time.Now())
			return d.postJSON(path, credentials("alice", alicesPassword))
		}
	}
	d.probes = map[string]probe{
		"key set": {200, get("/.well-known/jwks.json")}, "metadata": {200, get("/.well-known/openid-configuration")},
		"healthz": {200, get("/healthz")}, "readyz": {200, get("/readyz")},
		"client_credentials":      {200, func() answer { return d.post(d.good()) }},
		"refresh":                 {200, func() answer { return d.rotate(string(mine.Refresh)) }},
		"refresh of another":      {200, func() answer { return d.rotate(string(other.Refresh)) }},
		"simplejwt login":         {200, login("/api/token/")},
		"simplejwt refresh":       {200, simplejwt("/api/token/refresh/", "refresh", mine.Refresh)},
		"simplejwt verify":        {200, simplejwt("/api/token/verify/", "token", mine.Refresh)},
		"simplejwt verify access": {200, simplejwt("/api/token/verify/", "token", refusal.Secret(mine.AccessToken))},
		"simplejwt verify denied": {401, simplejwt("/api/token/verify/", "token", refusal.Secret(denied.AccessToken))},
		"blacklist":               {200, simplejwt("/api/token/blacklist/", "refresh", mine.Refresh)},
		"browser login":           {200, login("/session/login")},
		"browser refresh":         {200, func() answer { return d.send("POST", "/session/refresh", "", cookie) }},
		"browser logout":          {204, func() answer { return d.send("POST", "/session/logout", "", cookie) }},
		"preflight": {204, func() answer {
			return d.send("OPTIONS", "/token", "", "Origin: "+appOrigin, "Access-Control-Request-Method: POST")
		}},
	}
}

func (d *damagedWorld) clientProbes(server, reader string, mine, denied, other, at issuer.Grant, service string) {
	ask := func(path, token string, as string) func() answer {
		return func() answer { return d.ask(path, token, as) }
	}
	web, asReader := "client_id=web", basic("reader", reader)
	maps.Copy(d.probes, map[string]probe{
		"refresh at server": {200, func() answer {
			return d.post("grant_type=refresh_token&refresh_token="+string(at.Refresh), basic("server", server))
		}},
		"revoke":                  {200, ask("/revoke", string(mine.Refresh), web)},
		"revoke access":           {200, ask("/revoke", mine.AccessToken, web)},
		"revoke denied":           {200, ask("/revoke", denied.AccessToken, web)},
		"revoke of another":       {200, ask("/revoke", string(other.Refresh), web)},
		"revoke of a service":     {200, ask("/revoke", service, basic("billing", d.secret))},
		"introspect":              {200, ask("/introspect", mine.AccessToken, asReader)},
		"introspect denied":       {200, ask("/introspect", denied.AccessToken, asReader)},
		"introspect of another":   {200, ask("/introspect", other.AccessToken, asReader)},
		"introspect of a service": {200, ask("/introspect", service, asReader)},
		"introspect refresh":      {200, ask("/introspect", string(at.Refresh), basic("server", server))},
	})
}

func (d *damagedWorld) adminProbes(mine issuer.Grant) {
	admin := func(method, path, body string) func() answer {
		return func() answer { return d.askAdmin(method, "/admin/v1/"+path, body) }
	}
	maps.Copy(d.probes, map[string]probe{
		"admin status":           {200, admin("GET", "status", "")},
		"admin keys":             {200, admin("GET", "keys", "")},
		"admin users":            {200, admin("GET", "users", "")},
		"admin clients":          {200, admin("GET", "clients", "")},
		"admin audiences":        {200, admin("GET", "audiences", "")},
		"admin sessions":         {200, admin("GET", "sessions", "")},
		"admin sessions of user": {200, admin("GET", "sessions?user=7", "")},
		"admin audit":            {200, admin("GET", "audit", "")},
		"admin client":           {200, admin("GET", "client?id=web", "")},
		"admin user":             {200, admin("GET", "user?user=alice", "")},
		"admin disable":          {200, admin("PATCH", "user?user=id:7", `{"disabled":true}`)},
		"admin logout":           {200, admin("POST", "user/logout?user=id:7", "")},
		"admin remove":           {204, admin("DELETE", "user?user=id:7", "")},
		"admin add":              {409, admin("POST", "users", `{"user_id":"7","username":"x"}`)},
		"admin add again":        {201, admin("POST", "users", `{"user_id":"9","username":"x"}`)},
		"admin revoke session":   {200, admin("DELETE", "session?id="+mine.Session, "")},
		"admin why":              {200, admin("POST", "session/why", fmt.Sprintf(`{"token":%q}`, string(mine.Refresh)))},
	})
}

// run sends a probe and restores what it changed.
func (d *damagedWorld) run(name, key string, broken []byte) answer {
	d.t.Helper()
	a := d.probes[name].send()
	now := d.stored(func(string) bool { return true })
	if broken != nil && !bytes.Equal(now[key], broken) {
		if name != "admin remove" || now[key] != nil { // which deletes what leads to the user
			d.t.Errorf("%s: %s wrote over it", key, name)
		}
		d.putBelow(map[string][]byte{key: broken})
	}
	d.restore(now, key)
	return a
}

// restore puts back all records except the one that stays damaged. Probes change none that is in the
// manifest.
func (d *damagedWorld) restore(now map[string][]byte, except string) {
	d.t.Helper()
	back := map[string][]byte{}
	for key, value := range now {
		if was, ok := d.whole[key]; !ok {
			back[key] = nil
		} else if !bytes.Equal(was, value) {
			back[key] = was
		}
	}
	for key, value := range d.whole {
		if now[key] == nil {
			back[key] = value
		}
	}
	maps.DeleteFunc(back, func(key string, _ []byte) bool {
		kind, _, _ := strings.Cut(key, "/")
		return key == except || slices.Contains([]string{"clock", "manifest", "ring", "retired", "private"}, kind)
	})
	if len(back) > 0 {
		d.putBelow(back)
	}
}

// check fails unless the probe is answered as it should be: who needs the record gets 503, the others get
// what they got before.
func (d *damagedWorld) check(what, name string, a, before answer, needed bool) {
	t := d.t
	t.Helper()
	switch admin := strings.HasPrefix(name, "admin"); {
	case !needed && a.status != before.status, name == "key set" && a.body != before.body:
		t.Errorf("%s: %s got %d %s, want %d", what, name, a.status, a.body, before.status)
	case strings.HasPrefix(name, "introspect") && !needed && a.body != before.body:
		t.Errorf("%s: %s got %s, want %s", what, name, a.body, before.body)
	case needed && a.status != 503:
		t.Errorf("%s: %s got %d %s, want 503", what, name, a.status, a.body)
	case needed && name == "readyz":
		is(t, what, a, 503, `{"ready":false}`)
	case needed && admin:
		if a.code(t) != "unavailable" || strings.Contains(a.body, "again") || a.header.Get("Retry-After") != "" {
			t.Errorf("%s: %s got %s", what, name, a.body)
		}
	case needed:
		d.saysNoDetail(what+": "+name, a)
	}
}

// TestDamageFailsOnlyRequestsThatNeedTheRecord: over the whole API, for a record of every kind and every kind
// of damage. A request that needs the record gets 503 without any detail and without advice to try again, never a token and never
// "active": true. Every other request gets what it got before, and the record stays as it is.
//
// I23.
func TestDamageFailsOnlyRequestsThatNeedTheRecord(t *testing.T) {
	d := newDamagedWorld(t)
	before := map[string]answer{}
	for name, p := range d.probes {
		if before[name] = d.run(name, "", nil); before[name].status != p.status {
			t.Fatalf("without damage: %s got %d %s, want %d", name, before[name].status, before[name].body, p.status)
		}
	}
	for key, list := range d.needs {
		key = d.keyOf(key)
		whole := d.whole[key]
		needs := strings.Split(list, ", ")
		for _, name := range needs {
			if _, ok := d.probes[name]; !ok && name != "" {
				t.Fatalf("%s: no probe %s", key, name)
			}
		}
		for name, damage := range damages {
			restore := d.damage(key, damage)
			broken := d.stored(func(k string) bool { return k == key })[key]
			for _, p := range slices.Sorted(maps.Keys(d.probes)) {
				needed := slices.Contains(needs, p)
				switch login := strings.HasSuffix(p, " login"); { // a login takes the time of a hash
				case name == "one bit" && (needed || p != "simplejwt login"):
				case needed && !login, p == "client_credentials", p == "admin status":
				default:
					continue
				}
				d.check(key+", "+name, p, d.run(p, key, broken), before[p], needed)
			}
			restore(whole)
		}
	}
	for name := range d.probes {
		d.check("at the end", name, d.run(name, "", nil), before[name], false)
	}
}

// damages say how a record is damaged: below the tags, or, for nil, as a record with a right tag that this
// program does not write.
var damages = map[string]func(d *damagedWorld, key string) []byte{
	"one bit":     func(d *damagedWorld, key string) []byte { return oneBit(d.whole[key]) },
	"cut":         func(d *damagedWorld, key string) []byte { return d.whole[key][:len(d.whole[key])/2] },
	"a sibling's": (*damagedWorld).sibling,
	"impossible":  nil,
}

// sibling returns the value of another record of the kind, or of any if there is none.
func (d *damagedWorld) sibling(key string) (value []byte) {
	kind, _, _ := strings.Cut(key, "/")
	for other, v := range d.whole {
		if other != key && (value == nil || strings.HasPrefix(other, kind+"/")) {
			value = v
		}
	}
	return value
}

// damage damages a record and returns what restores it.
func (d *damagedWorld) damage(key string, how func(*damagedWorld, string) []byte) (restore func(whole []byte)) {
	if how != nil {
		d.putBelow(map[string][]byte{key: how(d, key)})
		return func(whole []byte) { d.putBelow(map[string][]byte{key: whole}) }
	}
	put := func(value []byte) {
		if err := d.store.Update(d.t.Context(), func(tx storage.Tx) error { return tx.Put(key, value) }); err != nil {
			d.t.Fatal(err)
		}
	}
	put([]byte{0})
	return func(whole []byte) { put(whole[:len(whole)-tagBytes]) }
}

// keyOf returns the first key below a path that is no key.
func (d *damagedWorld) keyOf(path string) string {
	if d.whole[path] != nil {
		return path
	}
	for _, key := range slices.Sorted(maps.Keys(d.whole)) {
		if strings.HasPrefix(key, path+"/") {
			return key
		}
	}
	d.t.Fatalf("no record %s", path)
	return ""
}

// TestReadinessFailsForDamageThatConcernsAll, as soon as the record was read, and for no other.
//
// I23.
func TestReadinessFailsForDamageThatConcernsAll(t *testing.T) {
	d := newDamagedWorld(t)
	for path, ready := range map[string]bool{
		"epoch": false, "ring/EdDSA": false, "refresh/secret/001": false, "clock": false,
		"user/7": true, "client/web": true, "audience/orders": true, "sessions": true, "tally": true, "denied": true, "family": true,
	} {
		key := d.keyOf(path)
		read := func() {
			d.store.View(t.Context(), func(r storage.Reader) error { r.Get(key); return nil })
		}
		for name := range damages {
			if damages[name] == nil && path != "epoch" {
				continue // only the record of its kind can tell
			}
			restore := d.damage(key, damages[name])
			read()
			if a := d.send("GET", "/readyz", ""); a.status == 200 != ready {
				t.Errorf("%s, %s: got %d %s", key, name, a.status, a.body)
			}
			if status := d.askAdmin("GET", "/admin/v1/status", ""); strings.Contains(status.body, "record "+key+" is damaged") == ready {
				t.Errorf("%s, %s: an administrator reads %s", key, name, status.body)
			}
			restore(d.whole[key])
			read()
			if a := d.send("GET", "/readyz", ""); a.status != 200 {
				t.Errorf("%s, %s, after it was restored: got %d %s", key, name, a.status, a.body)
			}
		}
	}
}

// TestDamagedTermsFailTheirSessions, after a restart: while the server runs it remembers them.
//
// I23.
func TestDamagedTermsFailTheirSessions(t *testing.T) {
	d := newDamagedWorld(t)
	before := map[string]answer{}
	for name := range d.probes {
		before[name] = d.run(name, "", nil)
	}
	terms := map[string][]byte{}
	for key, value := range d.whole {
		if strings.HasPrefix(key, "terms/") {
			terms[key] = value
		}
	}
	if len(terms) != 2 {
		t.Fatalf("%d terms", len(terms))
	}
	at := "refresh at server, introspect refresh"
	web := "refresh, refresh of another, simplejwt refresh, simplejwt verify, simplejwt verify access, blacklist, browser refresh, browser logout, " +
		"revoke, revoke access, revoke of another, introspect, introspect of another, admin why, admin revoke session"
	for key := range terms {
		needs := at
		if bytes.Contains(terms[key], []byte(`"client":"web"`)) {
			needs = web
		}
		for name, damage := range damages {
			restore := d.damage(key, damage)
			d.restart()
			broken := d.stored(func(k string) bool { return k == key })[key]
			for _, p := range strings.Split(web+", "+at+", readyz, client_credentials, admin sessions", ", ") {
				d.check(key+", "+name, p, d.run(p, key, broken), before[p], slices.Contains(strings.Split(needs, ", "), p))
			}
			restore(d.whole[key])
		}
	}
}

// restart opens the store again, under the same listeners.
func (d *damagedWorld) restart() {
	d.t.Helper()
	if err := d.file.Close(); err != nil {
		d.t.Fatal(err)
	}
	d.open(d.t, testKeys)
	d.public.Config.Handler = d.server.Public()
	d.admin = serveAdmin(d.t, d.server)
}

// TestDamageOfOneSessionStopsNoRevocation: whatever an administrator ends, the other sessions of the user end,
// and the damaged one is refused then and after it was restored, if it was ended with others.
//
// I23.
func TestDamageOfOneSessionStopsNoRevocation(t *testing.T) {
	for name, end := range map[string]func(w *world, other string) answer{
		"session revoke": func(w *world, other string) answer { return w.askAdmin("DELETE", "/admin/v1/session?id="+other, "") },
		"user logout":    func(w *world, _ string) answer { return w.askAdmin("POST", "/admin/v1/user/logout?user=alice", "") },
		"user disable": func(w *world, _ string) answer {
			return w.askAdmin("PATCH", "/admin/v1/user?user=alice", `{"disabled":true}`)
		},
		"user passwd": func(w *world, _ string) answer {
			return w.askAdmin("POST", "/admin/v1/user/password?user=alice", `{"password":"another long pass phrase"}`)
		},
		"user remove": func(w *world, _ string) answer { return w.askAdmin("DELETE", "/admin/v1/user?user=alice", "") },
		"client disable": func(w *world, _ string) answer {
			return w.askAdmin("PATCH", "/admin/v1/client?id=web", `{"disabled":true}`)
		},
		"client sessions": func(w *world, _ string) answer {
			return w.askAdmin("POST", "/admin/v1/sessions/revoke", `{"client":"web"}`)
		},
		"all sessions": func(w *world, _ string) answer {
			return w.askAdmin("POST", "/admin/v1/sessions/revoke", `{"all":true}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t).withAlice()
			begin := func() issuer.Grant {
				g, err := w.issuer.StartSession(t.Context(), issuer.SessionRequest{User: "7", Client: "web", Endpoint: issuer.LoginBrowser})
				if err != nil {
					t.Fatal(err)
				}
				return g
			}
			damaged, other := begin(), begin()
			key := "family/" + damaged.Session
			whole := w.stored(func(k string) bool { return k == key })[key]
			broken := oneBit(whole)
			w.putBelow(map[string][]byte{key: broken})
			if a := w.askAdmin("DELETE", "/admin/v1/session?id="+damaged.Session, ""); a.status != 503 || !strings.Contains(a.body, key) {
				t.Errorf("the damaged session: got %d %s", a.status, a.body)
			}
			if a := end(w, other.Session); a.status != 200 && a.status != 204 {
				t.Errorf("got %d %s", a.status, a.body)
			}
			if a := w.rotate(string(other.Refresh)); a.status != 400 && a.status != 401 {
				t.Errorf("the other session: got %d %s", a.status, a.body)
			}
			if a := w.rotate(string(damaged.Refresh)); strings.Contains(a.body, "token\"") || a.status == 200 {
				t.Errorf("the damaged session: got %d %s", a.status, a.body)
			}
			if now := w.stored(func(k string) bool { return k == key })[key]; !bytes.Equal(now, broken) {
				t.Error("the damaged record was changed")
			}
			w.putBelow(map[string][]byte{key: whole})
			a := w.rotate(string(damaged.Refresh))
			if ended := name != "session revoke"; a.status == 200 == ended {
				t.Errorf("the session that was restored: got %d %s", a.status, a.body)
			}
		})
	}
}
