package keyset

import (
	"net/http"
	"net/netip"
	"strings"

	"keymill/issuer/verifiers"
	"keymill/jwks"
)

// A Watch follows which set each caller was served. Its functions are called on the path of each request, so they
// return at once and do not read the store. Only answers that left a caller with a set are told of.
type Watch struct {
	// Pinned notes an answer to the pinned verifier with that credential. It returns false if there is none, and then
	// the answer is one to an observed verifier.
	Pinned func(credential string, set *jwks.Set) bool
	// Observed notes an answer to an observed verifier. If it is nil, nothing is followed.
	Observed func(verifiers.Fetch) *verifiers.Visitor
	// Again notes an answer to a visitor that Observed has returned, or returns false if that is forgotten.
	Again func(*verifiers.Visitor, *jwks.Set) bool
	// Addresses returns the address of the client, and that of the proxy in front of it if there is one.
	Addresses func(*http.Request) (client, through netip.Addr)
}

// Handler returns a handler of GET and HEAD that never returns an error. What it tells the Watch, it tells after the answer
// was sent, so no caller waits for it.
func (k *KeySet) Handler(watch Watch) func(http.ResponseWriter, *http.Request) error {
	if watch.Observed == nil {
		return func(w http.ResponseWriter, r *http.Request) error {
			k.handler.ServeHTTP(w, r)
			return nil
		}
	}
	known := new(visitors)
	return func(w http.ResponseWriter, r *http.Request) error {
		if set := k.handler.ServeSet(w, r); set != nil {
			watch.note(known, r, set)
		}
		return nil
	}
}

func (w *Watch) note(known *visitors, r *http.Request, set *jwks.Set) {
	if c := credential(r); c != "" && w.Pinned(c, set) {
		return
	}
	agent := ""
	if values := r.Header["User-Agent"]; len(values) > 0 { // UserAgent would write the name in its canonical form first
		agent = values[0]
	}
	if Proxied(r) {
		client, through := w.Addresses(r)
		w.Observed(verifiers.Fetch{Address: client, Through: through, Agent: agent, Set: set})
		return
	}
	place := known.place(r.RemoteAddr)
	if v := place.Load(); v != nil && v.peer == r.RemoteAddr && v.agent == agent && w.Again(v.Visitor, set) {
		return
	}
	client, through := w.Addresses(r)
	v := w.Observed(verifiers.Fetch{Address: client, Through: through, Agent: agent, Set: set})
	if len(agent) <= maxKnownAgent {
		place.Store(&visitor{v, r.RemoteAddr, strings.Clone(agent)})
	}
}

// credential returns what the caller says about its name: the value of the header, or else of the parameter. It
// returns "" if that is given more than once: one of the values may come from a proxy or from a link that another
// party wrote. A header that is wrong is not replaced by a parameter that is right, so that it is
// clear which of the two counts.
func credential(r *http.Request) string {
	if values, found := r.Header[jwks.VerifierHeader]; found {
		if len(values) != 1 {
			return ""
		}
		return values[0]
	}
	if r.URL.RawQuery == "" {
		return ""
	}
	return parameter(r.URL.RawQuery)
}

// parameter returns the value of the parameter in a query, "" if it is absent or repeated. A credential has no
// character that a URL must escape, so nothing is decoded, and a query of any length allocates nothing.
func parameter(query string) (value string) {
	found := false
	for p := range strings.SplitSeq(query, "&") {
		name, v, _ := strings.Cut(p, "=")
		if name != jwks.VerifierParameter {
			continue
		}
		if found {
			return ""
		}
		value, found = v, true
	}
	return value
}
