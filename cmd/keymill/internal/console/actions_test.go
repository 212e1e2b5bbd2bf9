package console

// An actionCase is one action: what its page says, and what it asks the server for.
type actionCase struct {
	path, typed, command, request string
	shown                         []string
	once                          string // what the answer itself shows; "" if it leads to another page
	blind                         bool   // there is nothing that could have changed
}

var actionCases = []actionCase{
	{path: "key/rotate?alg=EdDSA", command: "key rotate --alg EdDSA", request: `POST keys/rotate  {"alg":"EdDSA","force":false}`,
		shown: []string{"key-0", "key-1", "1 of 3", "not orders", "force=1"}},
	{path: "key/rotate?alg=EdDSA&force=1", typed: "force", command: "key rotate --alg EdDSA --force", request: `POST keys/rotate  {"alg":"EdDSA","force":true}`,
		shown: []string{"refuse its tokens until they do"}},
	{path: "key/rotate?alg=EdDSA&flush=1", typed: "flush", command: "key rotate --alg EdDSA --flush", request: `POST keys/rotate  {"alg":"EdDSA","force":false,"flush":true}`,
		shown: []string{"Signs instead", "the spare stays next", "waits for no one"}},
	{path: "key/revoke?kid=key-0&flush=1", typed: "revoke", command: "key revoke --flush key-0", request: `POST keys/revoke  {"kid":"key-0","flush":true}`,
		shown: []string{"2 of 3", "Signs from now on", "the spare stays next", "not revoked"}},
	{path: "key/revoke?kid=key-0", typed: "revoke", command: "key revoke key-0", request: `POST keys/revoke  {"kid":"key-0"}`,
		shown: []string{"2 of 3", "active", "Signs next", "key-1", "cannot be undone", "flush=1"}},
	{path: "client/disable?id=name", command: "client disable name", request: `PATCH client id=name {"grants":null,"audiences":null,"scopes":null,"origins":null,"disabled":true,"introspect":null,"grace":null,"idle":null,"absolute":null,"claims":null}`,
		shown: []string{"Live sessions", "<dd>1", "sessions end"}},
	{path: "client/enable?id=name", command: "client enable name", request: `PATCH client id=name {"grants":null,"audiences":null,"scopes":null,"origins":null,"disabled":false,"introspect":null,"grace":null,"idle":null,"absolute":null,"claims":null}`},
	{path: "client/secret?id=name", command: "client rotate-secret --old-for 24h name", request: `POST client/secret id=name {"old_for":"24h"}`,
		shown: []string{"shown once", "7 days more"}, once: "a-new-secret"},
	{path: "client/logout?id=name", command: "session revoke --client name", request: `POST sessions/revoke  {"client":"name","all":false}`},
	{path: "client/remove?id=name", typed: "name", command: "client remove name", request: `DELETE client id=name`, shown: []string{"cannot be undone"}},
	{path: "user/disable?user=name", command: "user disable id:name", request: `PATCH user user=id%3Aname {"username":null,"disabled":true,"claims":null}`, shown: []string{"Live sessions"}},
	{path: "user/enable?user=name", command: "user enable id:name", request: `PATCH user user=id%3Aname {"username":null,"disabled":false,"claims":null}`},
	{path: "user/logout?user=name", command: "user logout id:name", request: `POST user/logout user=id%3Aname`},
	{path: "user/unblock?user=name", command: "user unblock id:name", request: `POST user/unblock user=id%3Aname`, shown: []string{"Refused addresses"}},
	{path: "user/remove?user=name", typed: "name", command: "user remove id:name", request: `DELETE user user=id%3Aname`},
	{path: "verifier/add?name=fresh", command: "verifier add fresh", request: `POST verifiers  {"name":"fresh"}`, shown: []string{"Pinned now", "<dd>1"},
		once: "https://id.example/a-credential", blind: true},
	{path: "verifier/remove?name=name", typed: "name", command: "verifier remove name", request: `DELETE verifier name=name`, shown: []string{"Last served"}},
	{path: "session/revoke?id=name", command: "session revoke name", request: `DELETE session id=name`, shown: []string{"Refreshes", "log in again"}},
}

// asks are the pages that ask, with parameters that have text.
func asks(text string) []string {
	r := &request{}
	return []string{
		r.to("key/rotate", "alg", text), r.to("key/rotate", "alg", text, "force", "1"), r.to("key/revoke"), r.to("key/revoke", "kid", text+"0"),
		r.to("key/rotate", "alg", text, "flush", "1"), r.to("key/revoke", "kid", text+"0", "flush", "1"),
		r.to("client/disable", "id", text), r.to("client/enable", "id", text), r.to("client/secret", "id", text), r.to("client/logout", "id", text),
		r.to("client/remove", "id", text), r.to("user/disable", "user", text), r.to("user/enable", "user", text), r.to("user/logout", "user", text),
		r.to("user/unblock", "user", text), r.to("user/remove", "user", text), r.to("verifier/add", "name", "fresh"),
		r.to("verifier/remove", "name", text), r.to("session/revoke", "id", text+"0", "user", text, "client", text),
	}
}
