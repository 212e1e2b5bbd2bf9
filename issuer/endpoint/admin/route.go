package admin

import (
	"net/http"
	"net/url"
	"reflect"
	"slices"
)

// A Handler returns the answer to a request. It is marshalled as JSON, unless the status
// is 204 or the answer is a Stream.
type Handler func(*http.Request) (answer any, err error)

// A Route says how one method of one path is served.
type Route struct {
	Method  string
	Path    string
	Status  int   // of the answer, unless Handler returns an error
	Scope   Scope // which a caller needs who is not on the socket
	Summary string
	Operation
}

// An Operation is a Handler with its contract: what it reads and what it answers. The functions that
// make one take the types from the handler, so they cannot differ from what is served.
type Operation struct {
	Handler Handler
	Query   []Parameter  // all that it accepts
	Body    reflect.Type // of the request; nil if it has none
	Answer  reflect.Type // that of any if the answer has no body
	Codes   []string     // of its refusals, beside those of Common
	Linked  bool         // a page of the answer has a Link to the next one
	Tagged  bool         // the answer has an ETag; a change reads If-Match and If-None-Match, see condition
}

// Common returns the codes that every route can answer with.
func Common() []string { return []string{"invalid_request", "unavailable", "server_error"} }

// Remote returns the codes that every route can also answer with on admin.listen.
func Remote() []string {
	return []string{"no_token", "invalid_token", "insufficient_scope", "origin_refused", "wrong_host", "temporarily_unavailable"}
}

// refuses adds codes to those that the operation can answer with.
func (o Operation) refuses(codes ...string) Operation {
	o.Codes = slices.Concat(o.Codes, codes)
	return o
}

// tagged says that the answers have an entity tag.
func (o Operation) tagged() Operation {
	o.Tagged = true
	return o
}

// conditional says in addition that the operation is only done for the tags that the request names.
func (o Operation) conditional() Operation { return o.tagged().refuses("precondition_failed") }

// selected returns an Operation without a body whose handler reads the query itself.
func selected[A any](h func(*http.Request, url.Values) (A, error), query ...Parameter) Operation {
	return Operation{Query: query, Answer: reflect.TypeFor[A](), Handler: func(r *http.Request) (any, error) {
		values, err := readQuery(r, query)
		if err != nil {
			return nil, err
		}
		return h(r, values)
	}}
}

// bare returns an Operation without parameters and without a body.
func bare[A any](h func(*http.Request) (A, error)) Operation {
	return selected(func(r *http.Request, _ url.Values) (A, error) { return h(r) })
}

// paged returns an Operation that lists. after is the entry after which the list continues. others are
// the parameters that h reads itself.
func paged[A any](h func(r *http.Request, after string, limit int) (A, error), others ...Parameter) Operation {
	return selected(func(r *http.Request, query url.Values) (answer A, err error) {
		limit, err := queryNumber(query, "limit", numbers{fallback: pageLimit.Default, lowest: pageLimit.Lowest, highest: pageLimit.Highest})
		if err != nil {
			return answer, err
		}
		return h(r, query.Get("after"), int(limit))
	}, append(slices.Clone(others), pageAfter, pageLimit)...)
}

// named returns an Operation whose query has a required parameter: the name of the audience, client,
// user or session. others are the parameters that h reads itself.
func named[A any](parameter Parameter, h func(r *http.Request, name string) (A, error), others ...Parameter) Operation {
	return selected(func(r *http.Request, query url.Values) (answer A, err error) {
		name := query.Get(parameter.Name)
		if name == "" {
			return answer, missingParameter(parameter.Name)
		}
		return h(r, name)
	}, append([]Parameter{parameter}, others...)...).refuses("not_found")
}

// withBody returns an Operation with a body and without parameters.
func withBody[B, A any](h func(r *http.Request, body B) (A, error)) Operation {
	o := bare(func(r *http.Request) (answer A, err error) {
		body, err := decode[B](r)
		if err != nil {
			return answer, err
		}
		return h(r, body)
	})
	o.Body = reflect.TypeFor[B]()
	return o
}

// namedWithBody returns an Operation with a required parameter and a body.
func namedWithBody[B, A any](parameter Parameter, h func(r *http.Request, name string, body B) (A, error)) Operation {
	o := named(parameter, func(r *http.Request, name string) (answer A, err error) {
		body, err := decode[B](r)
		if err != nil {
			return answer, err
		}
		return h(r, name, body)
	})
	o.Body = reflect.TypeFor[B]()
	return o
}
