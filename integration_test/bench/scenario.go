package main

import (
	"bytes"
	"fmt"
	"net/url"
	"time"
)

// A scenario is one kind of request, sent to Keymill and to the floor.
type scenario struct {
	name  string
	group string // what the command line calls it
	// caller makes the requests of one connection to a server.
	caller func(target) caller
	// only is true if it is for this build and the floor: an older build may not know it.
	only bool

	// The bounds of --assert. Without one there is no bound.
	share  float64         // the floor's CPU time per request, as a share of ours: the lowest
	goal   float64         // what the share is to become; --assert does not check it
	spread map[int]float64 // connections → highest quotient of p99 and p50
}

// concurrencies are the numbers of connections that every scenario is run with.
func concurrencies() []int { return []int{16, 64} }

// scenarios is the table. A new scenario is a line here and, if the floor does not answer it
// yet, a route of the floor.
func scenarios() []scenario {
	return []scenario{
		{
			name: "jwks", group: "jwks",
			caller: func(t target) caller {
				return always("GET /.well-known/jwks.json HTTP/1.1\r\nHost: " + t.address + "\r\n\r\n")
			},
			share: 0.88, goal: 0.92,
		},
		{
			name: "client_credentials EdDSA", group: "token", caller: tokenCaller(audienceEd),
			share: 0.80, goal: 0.88,
		},
		{
			name: "client_credentials RS256", group: "token", caller: tokenCaller(audienceRSA),
			share: 0.93, goal: 0.95, spread: map[int]float64{16: 3},
		},
		{
			name: "client_credentials ES256", group: "token", caller: tokenCaller(audienceEC),
			share: 0.79, goal: 0.88, only: true,
		},
		{
			name: "refresh_token EdDSA", group: "refresh", caller: refreshCaller(audienceEd),
			share: 0.74, goal: 0.86,
		},
	}
}

// tokenCaller sends the secret in the form (client_secret_post), since the floor parses the form
// anyway.
func tokenCaller(audience string) func(target) caller {
	return func(t target) caller {
		form := url.Values{
			"grant_type": {"client_credentials"}, "client_id": {t.accounts.service.ID}, "client_secret": {t.accounts.service.Secret},
			"audience": {audience}, "scope": {tokenScope},
		}
		return always(post(t.address, "/token", formType, form.Encode()))
	}
}

// refreshCaller logs in once, and each later request presents the refresh token of the answer
// before it. So each connection has its own session, the logins are part of the warm-up, and
// no request is a retry.
func refreshCaller(audience string) func(target) caller {
	return func(t target) caller { return newSession(t, audience) }
}

func newSession(t target, audience string) caller {
	const blank = "kmr_000000000000000000000000000000000000000000000000000000000000"
	form := url.Values{
		"grant_type": {"refresh_token"}, "client_id": {t.accounts.web.ID}, "client_secret": {t.accounts.web.Secret},
		"audience": {audience}, "scope": {tokenScope}, "refresh_token": {blank},
	}
	login := fmt.Sprintf(`{"username":%q,"password":%q}`, t.accounts.user, t.accounts.password)
	request := []byte(post(t.address, "/token", formType, form.Encode()))
	place := request[bytes.Index(request, []byte(blank)):][:len(blank)]
	return func(answer []byte) []byte {
		// With its quote, because a signature may contain kmr_.
		_, token, found := bytes.Cut(answer, []byte(`"kmr_`))
		if !found {
			return []byte(post(t.address, "/api/token/", jsonType[0], login))
		}
		copy(place[len("kmr_"):], token)
		return request
	}
}

const formType = "application/x-www-form-urlencoded"

func post(address, path, contentType, body string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s",
		path, address, contentType, len(body), body)
}

// always is the caller of a scenario whose requests are all the same.
func always(request string) caller {
	b := []byte(request)
	return func([]byte) []byte { return b }
}

// missed returns the bounds that r does not keep.
func (r result) missed() []string {
	var out []string
	if share := median(r.shares()); share < r.scenario.share {
		out = append(out, fmt.Sprintf("%s at %d: the floor takes %.3f of our CPU time, wanted at least %.2f",
			r.scenario.name, r.connections, share, r.scenario.share))
	}
	p50, p99 := percentile(r.server.latencies, 0.50), percentile(r.server.latencies, 0.99)
	if highest := r.scenario.spread[r.connections]; highest > 0 && float64(p99) > highest*float64(p50) {
		out = append(out, fmt.Sprintf("%s at %d: p99 %v is over %g × p50 %v",
			r.scenario.name, r.connections, p99.Round(time.Microsecond), highest, p50.Round(time.Microsecond)))
	}
	return out
}
