package admin

import (
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/text/unicode/norm"

	"keymill/issuer/api"
	"keymill/issuer/refusal"
)

// maxExamined is how many entries one request reads at most. A page of a filtered list that ends there can have
// fewer entries than its limit although more follow; its Link says so.
const maxExamined = 1000

// A filter selects entries by the value of a parameter.
type filter[T any] struct {
	Parameter
	keep func(entry T, value string) bool
}

// A list is a list of entries in the order of their names.
type list[T any] struct {
	read    func(r *http.Request, after string, limit int) ([]T, error)
	name    func(T) string
	filters []filter[T]
}

// operation returns the Operation of a list.
func (l list[T]) operation() Operation {
	var parameters []Parameter
	for _, f := range l.filters {
		parameters = append(parameters, f.Parameter)
	}
	o := selected(func(r *http.Request, query url.Values) (any, error) {
		limit, err := queryNumber(query, "limit", numbers{fallback: pageLimit.Default, lowest: pageLimit.Lowest, highest: pageLimit.Highest})
		if err != nil {
			return nil, err
		}
		entries, next, err := l.page(r, query, int(limit))
		return stored{answer: entries, status: http.StatusOK, next: nextPage(r, query, next)}, err
	}, append(parameters, pageAfter, pageLimit)...)
	o.Answer, o.Linked = reflect.TypeFor[[]T](), true
	return o
}

// page returns up to limit entries that the query selects. next is the last entry that was examined, "" if the list
// ends here.
func (l list[T]) page(r *http.Request, query url.Values, limit int) (entries []T, next string, err error) {
	var selected []filter[T]
	for _, f := range l.filters {
		if !query.Has(f.Name) {
			continue
		}
		value := query.Get(f.Name)
		if value == "" || f.Values != nil && !slices.Contains(f.Values, value) {
			return nil, "", refusal.New("invalid_request", "parameter '%s' cannot be '%.100s'", f.Name, refusal.Quoted(value))
		}
		selected = append(selected, f)
	}
	examined := limit
	if len(selected) > 0 {
		examined = maxExamined
	}
	found, err := l.read(r, query.Get("after"), examined)
	if err != nil {
		return nil, "", err
	}
	entries = []T{}
	for n, entry := range found {
		if !slices.ContainsFunc(selected, func(f filter[T]) bool { return !f.keep(entry, query.Get(f.Name)) }) {
			entries = append(entries, entry)
		}
		if len(entries) == limit || n == examined-1 {
			return entries, l.name(entry), nil
		}
	}
	return entries, "", nil
}

// nextPage returns the Link to the next page (RFC 8288), "" if there is none.
func nextPage(r *http.Request, query url.Values, after string) string {
	if after == "" {
		return ""
	}
	query.Set("after", after)
	return "<" + r.URL.Path + "?" + query.Encode() + `>; rel="next"`
}

func (a *API) audiences() Operation {
	return list[api.Audience]{read: a.listAudiences, name: func(audience api.Audience) string { return audience.Name }}.operation()
}

func (a *API) clients() Operation {
	return list[api.Client]{read: a.listClients, name: func(c api.Client) string { return c.ID }, filters: []filter[api.Client]{
		{ofAudience, func(c api.Client, v string) bool {
			return slices.Contains(c.Audiences, v) || slices.Contains(c.Introspect, v)
		}},
		{ofGrant, func(c api.Client, v string) bool { return slices.Contains(c.Grants, v) }},
		{ofDisabled, func(c api.Client, v string) bool { return strconv.FormatBool(c.Disabled) == v }},
	}}.operation()
}

func (a *API) users() Operation {
	return list[api.User]{read: a.listUsers, name: func(u api.User) string { return u.ID }, filters: []filter[api.User]{
		{ofName, func(u api.User, v string) bool { return strings.HasPrefix(u.Name, norm.NFKC.String(v)) }},
		{ofDisabled, func(u api.User, v string) bool { return strconv.FormatBool(u.Disabled) == v }},
	}}.operation()
}
