package openapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"keymill/issuer/api"
	"keymill/issuer/endpoint/admin"
)

const about = `Everything that the command line of Keymill does. The API is served on the Unix socket admin.sock of the
data directory, to the user of the server and to root, who need no token. With the setting admin.listen it is also served
over the network, to clients with an access token for the audience keymill-admin that has the scope of the route. A parameter or a member that a request does not
have is refused. GET stands for HEAD as well. x-scope names the group of a route, and x-socket-only says that no
token can ever be allowed it.`

// Generate returns the document, as it is checked in.
func Generate() ([]byte, error) {
	read, err := readComments("keymill/issuer/api", "keymill/storage/audit")
	if err != nil {
		return nil, err
	}
	s := &schemas{comments: read, byName: object{}}
	paths := object{}
	for _, r := range admin.New(admin.Config{}).Routes() {
		if paths[r.Path] == nil {
			paths[r.Path] = object{}
		}
		paths[r.Path].(object)[strings.ToLower(r.Method)] = s.operation(r)
	}
	document := object{
		"openapi": "3.1.0",
		"info":    object{"title": "Keymill admin API", "version": "v1", "description": oneText(about)},
		"servers": []any{object{"url": "http://localhost", "description": "the Unix socket; the host name is not read"}},
		"paths":   paths,
		"components": object{
			"schemas": s.byName, "responses": s.responsesOfAll(),
			"securitySchemes": object{"token": object{
				"type": "http", "scheme": "bearer", "bearerFormat": "at+jwt", "description": "only over the network: an access token of a client with the scope",
			}},
		},
	}
	b, err := json.MarshalIndent(document, "", " ")
	return append(b, '\n'), err
}

func oneText(s string) string { return strings.Join(strings.Fields(s), " ") }

func (s *schemas) operation(r admin.Route) object {
	o := object{
		"operationId": operationID(r), "summary": r.Summary, "tags": []any{strings.Split(r.Path, "/")[3]},
		"responses": s.responses(r), "x-scope": string(r.Scope),
	}
	if r.Scope.SocketOnly() {
		o["x-socket-only"] = true
	} else {
		o["security"] = []any{object{}, object{"token": []any{string(r.Scope)}}}
	}
	if r.Body != nil {
		o["requestBody"] = object{"required": true, "content": object{"application/json": object{"schema": s.of(r.Body, true)}}}
	}
	parameters := []any{}
	for _, p := range r.Query {
		parameters = append(parameters, parameter(p))
	}
	if r.Tagged && r.Method != http.MethodGet {
		parameters = append(parameters,
			header("If-Match", "only if the entry has one of these entity tags; * for any entry that exists"),
			header("If-None-Match", "only if the entry has none of these entity tags; * for one that does not exist"))
	}
	if len(parameters) > 0 {
		o["parameters"] = parameters
	}
	return o
}

// operationID returns "getClient" for GET /admin/v1/client.
func operationID(r admin.Route) string {
	id := strings.ToLower(r.Method)
	for _, part := range strings.FieldsFunc(strings.TrimPrefix(r.Path, "/admin/v1/"), func(c rune) bool { return c == '/' || c == '.' }) {
		id += strings.ToUpper(part[:1]) + part[1:]
	}
	return id
}

func header(name, meaning string) object {
	return object{"name": name, "in": "header", "description": meaning, "schema": object{"type": "string"}}
}

func parameter(p admin.Parameter) object {
	schema := object{"type": "string"}
	switch {
	case p.Format == "number":
		schema = object{"type": "integer", "minimum": p.Lowest, "maximum": p.Highest, "default": p.Default}
	case p.Format != "":
		schema["format"] = p.Format
	case p.Highest > 0:
		schema["maxLength"] = p.Highest
	}
	if p.Values != nil {
		schema["enum"] = p.Values
	}
	described := object{"name": p.Name, "in": "query", "description": p.Doc, "schema": schema}
	if p.Required {
		described["required"] = true
	}
	return described
}

// meanings maps the codes of refusals to the statuses that they have.
var meanings = map[string][]int{
	"invalid_request":     {http.StatusBadRequest, http.StatusRequestEntityTooLarge},
	"not_found":           {http.StatusNotFound},
	"already_exists":      {http.StatusConflict},
	"in_use":              {http.StatusConflict},
	"built_in":            {http.StatusConflict},
	"socket_only":         {http.StatusForbidden},
	"not_ready":           {http.StatusConflict},
	"not_served":          {http.StatusConflict},
	"no_reserve":          {http.StatusConflict},
	"unavailable":         {http.StatusTooManyRequests, http.StatusServiceUnavailable},
	"precondition_failed": {http.StatusPreconditionFailed},
	"server_error":        {http.StatusInternalServerError},

	// Only over the network.
	"no_token":                {http.StatusUnauthorized},
	"invalid_token":           {http.StatusUnauthorized},
	"insufficient_scope":      {http.StatusForbidden},
	"origin_refused":          {http.StatusForbidden},
	"wrong_host":              {http.StatusMisdirectedRequest},
	"temporarily_unavailable": {http.StatusTooManyRequests},
}

// common returns the codes that every route can answer with a status.
func common(status int) (codes []string) {
	for _, code := range slices.Concat(admin.Common(), admin.Remote()) {
		if slices.Contains(meanings[code], status) {
			codes = append(codes, code)
		}
	}
	return codes
}

// responses describes the answer to a success, and one for each status of a refusal.
func (s *schemas) responses(r admin.Route) object {
	success := object{"description": "done"}
	switch r.Answer {
	case reflect.TypeFor[any]():
	case reflect.TypeFor[admin.Stream]():
		success = object{"description": "the copy", "content": object{"application/octet-stream": object{}}}
	default:
		success["content"] = object{"application/json": object{"schema": s.of(r.Answer, false)}}
	}
	if r.Tagged && success["content"] != nil {
		success["headers"] = object{"ETag": object{"description": "of what administrators decide", "schema": object{"type": "string"}}}
	}
	if r.Linked {
		success["headers"] = object{"Link": object{"description": "the next page, with rel=next; absent on the last one", "schema": object{"type": "string"}}}
	}
	all := object{fmt.Sprint(r.Status): success}
	if r.Method == http.MethodPut {
		all[fmt.Sprint(http.StatusCreated)] = success
	}
	if tried := fmt.Sprint(http.StatusNoContent); all[tried] == nil && slices.ContainsFunc(r.Query, func(p admin.Parameter) bool { return p.Name == "dry_run" }) {
		all[tried] = object{"description": "with dry_run: the request would have succeeded"}
	}
	codes := map[int][]string{}
	for _, code := range slices.Concat(admin.Common(), admin.Remote(), r.Codes) {
		for _, status := range meanings[code] {
			if status == http.StatusRequestEntityTooLarge && r.Body == nil || slices.Contains(codes[status], code) {
				continue
			}
			codes[status] = append(codes[status], code)
		}
	}
	for status, list := range codes {
		if slices.Equal(list, common(status)) {
			all[fmt.Sprint(status)] = object{"$ref": "#/components/responses/" + sharedName(status)}
		} else {
			all[fmt.Sprint(status)] = s.refusal(list)
		}
	}
	return all
}

// responsesOfAll are the refusals that every route can answer with.
func (s *schemas) responsesOfAll() object {
	all := object{}
	for _, code := range slices.Concat(admin.Common(), admin.Remote()) {
		for _, status := range meanings[code] {
			all[sharedName(status)] = s.refusal(common(status))
		}
	}
	return all
}

func sharedName(status int) string { return fmt.Sprintf("refused_%d", status) }

func (s *schemas) refusal(codes []string) object {
	all := codes
	var forms []any
	if n := slices.Index(codes, "not_ready"); n >= 0 {
		forms = append(forms, problem(s.of(reflect.TypeFor[api.NotReadyProblem](), false), codes[n]))
		codes = slices.Delete(slices.Clone(codes), n, n+1)
	}
	if len(codes) > 0 {
		forms = append(forms, problem(s.of(reflect.TypeFor[api.Problem](), false), codes...))
	}
	schema := object{"oneOf": forms}
	if len(forms) == 1 {
		schema = forms[0].(object)
	}
	return object{"description": strings.Join(all, ", "), "content": object{admin.ProblemType: object{"schema": schema}}}
}

// problem narrows the codes of a form.
func problem(form object, codes ...string) object {
	list := []any{}
	for _, c := range codes {
		list = append(list, c)
	}
	return object{"allOf": []any{form, object{"properties": object{"code": object{"enum": list}}}}}
}
