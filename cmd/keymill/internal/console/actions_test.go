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
	{path: "key/revoke?kid=key-0", typed: "revoke", command: "key revoke key-0", request: `POST keys/revoke  {"kid":"key-0"}`,
		shown: []string{"2 of 3", "active", "Signs next", "key-1", "cannot be undone"}},
}

// asks are the pages that ask, with parameters that have text.
func asks(text string) []string {
	r := &request{}
	return []string{
		r.to("key/rotate", "alg", text), r.to("key/rotate", "alg", text, "force", "1"), r.to("key/revoke"), r.to("key/revoke", "kid", text+"0"),
	}
}
