package admin

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"keymill/issuer/api"
	"keymill/issuer/refusal"
)

// MaxBodyBytes is the limit for the body of a request. A larger one is an
// *http.MaxBytesError.
const MaxBodyBytes = 64 << 10

// decode reads the body of a request strictly, see api.Decode.
func decode[T any](r *http.Request) (v T, err error) {
	if r.ContentLength > MaxBodyBytes {
		return v, &http.MaxBytesError{Limit: MaxBodyBytes} // before the client is invited to send it
	}
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, MaxBodyBytes))
	if large := (*http.MaxBytesError)(nil); errors.As(err, &large) {
		return v, err
	} else if err != nil {
		return v, refusal.New("invalid_request", "the body could not be read")
	}
	return v, api.Decode(body, &v)
}

// readQuery parses the query. It refuses a parameter that is not one of known, and one that is given
// twice: a name that was mistyped must not do more than was meant.
func readQuery(r *http.Request, known []Parameter) (url.Values, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, refusal.New("invalid_request", "the query is malformed")
	}
	for name, values := range query {
		if !slices.ContainsFunc(known, func(p Parameter) bool { return p.Name == name }) {
			return nil, refusal.New("invalid_request", "the query has an unknown parameter '%.100s'", refusal.Quoted(name))
		}
		if len(values) > 1 {
			return nil, refusal.New("invalid_request", "the query has parameter '%s' twice", name)
		}
	}
	return query, nil
}

// numbers are the values that a parameter may have; fallback if it is absent.
type numbers struct{ fallback, lowest, highest uint64 }

func queryNumber(query url.Values, parameter string, valid numbers) (uint64, error) {
	s := query.Get(parameter)
	if s == "" {
		return valid.fallback, nil
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n < valid.lowest || n > valid.highest {
		return 0, refusal.New("invalid_request", "parameter '%s' must be a number from %d to %d", parameter, valid.lowest, valid.highest)
	}
	return n, nil
}

// condition reads the headers If-Match and If-None-Match of a change.
func condition(r *http.Request) (api.Condition, error) {
	return api.ParseCondition(r.Header["If-Match"], r.Header["If-None-Match"])
}

// conditional returns the handler of a route. It refuses a change with a condition if the route reads none: the
// change would be made although the condition may not be met.
func conditional(route Route) Handler {
	if route.Tagged || route.Method == http.MethodGet {
		return route.Handler
	}
	return func(r *http.Request) (any, error) {
		for _, header := range []string{"If-Match", "If-None-Match"} {
			if len(r.Header[header]) > 0 {
				return nil, refusal.New("invalid_request", "%s %s does not read the header %s", route.Method, route.Path, header)
			}
		}
		return route.Handler(r)
	}
}

// missingParameter refuses a query without a required parameter.
func missingParameter(name string) error {
	return refusal.New("invalid_request", "the query needs parameter '%s'", name)
}

// missing refuses a body without a required member.
func missing(member string) error {
	return refusal.New("invalid_request", "member '%s' is missing", member)
}

// instant returns t in UTC and whole seconds, as every instant of the API, or nil, which JSON shows as
// null, if t is not known.
func instant(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC().Truncate(time.Second)
	return &t
}

// end is instant for the end of a risk: it is over at the second that end returns.
func end(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return instant(t.Add(time.Second - 1))
}
