package keyset

import (
	"net/http"
	"net/netip"
	"strings"

	"keymill/issuer/verifiers"
	"keymill/jwks"
)

// A Watch follows which set each caller was served. Its functions are called on the path of each request, so they
// return at once and do not read the store.
type Watch struct {
	// Addresses returns the address of the client, and that of the proxy in front of it if there is one.
	Addresses func(*http.Request) (client, through netip.Addr)
	// Identify returns the name of the pinned verifier with that credential, "" if there is none.
	Identify func(credential string) string
	// Served gets each answer that left a caller with a set. If it is nil, nothing is followed.
	Served func(verifiers.Fetch)
}

// Handler returns a handler of GET and HEAD that never returns an error. Served is called after the answer was sent, so no
// caller waits for it.
func (k *KeySet) Handler(watch Watch) func(http.ResponseWriter, *http.Request) error {
	if watch.Served == nil {
		return func(w http.ResponseWriter, r *http.Request) error {
			k.handler.ServeHTTP(w, r)
			return nil
		}
	}
	return func(w http.ResponseWriter, r *http.Request) error {
		if set := k.handler.ServeSet(w, r); set != nil {
			watch.Served(watch.fetch(r, set))
		}
		return nil
	}
}

// fetch describes who was served the set.
func (w Watch) fetch(r *http.Request, set *jwks.Set) verifiers.Fetch {
	client, through := w.Addresses(r)
	f := verifiers.Fetch{Address: client, Through: through, Agent: r.UserAgent(), Set: set}
	if c := credential(r); c != "" {
		f.Verifier = w.Identify(c)
	}
	return f
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
