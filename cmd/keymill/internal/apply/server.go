package apply

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"keymill/issuer/api"
)

// A Request is a request to the admin API.
type Request struct {
	Method  string
	Path    string // below /admin/v1/, with the query
	IfMatch string // the ETag of what is to be changed; "" sends no such condition
	IsNew   bool   // sends If-None-Match: *
	Body    any    // sent as JSON; nil for none
}

// Header returns the conditions of the request.
func (r Request) Header() http.Header {
	header := http.Header{}
	if r.IsNew {
		header.Set("If-None-Match", "*")
	} else if r.IfMatch != "" {
		header.Set("If-Match", r.IfMatch)
	}
	return header
}

// An Answer is what the admin API answers, also a refusal.
type Answer struct {
	Status int
	ETag   string
	Body   []byte
}

// A Server asks the admin API. An error says that there was no answer.
type Server func(context.Context, Request) (Answer, error)

// A refused is an answer that says no.
type refused struct {
	api.Problem
	status int
}

// Error returns the detail of the refusal, or its code.
func (r *refused) Error() string {
	switch {
	case r.Detail != "":
		return r.Detail
	case r.Code != "":
		return r.Code
	}
	return fmt.Sprintf("the server answered %d %s", r.status, http.StatusText(r.status))
}

// ask sends a request and decodes the answer into to, unless it is nil. A refusal is a *refused.
func (s Server) ask(ctx context.Context, r Request, to any) (etag string, err error) {
	answer, err := s(ctx, r)
	if err != nil {
		return "", err
	}
	if answer.Status >= 300 {
		no := &refused{status: answer.Status}
		_ = json.Unmarshal(answer.Body, &no.Problem) // Error has another text if it is no problem
		return "", no
	}
	if to != nil {
		if err := json.Unmarshal(answer.Body, to); err != nil {
			return "", fmt.Errorf("cannot read the server's answer: %w", err)
		}
	}
	return answer.ETag, nil
}

// pathOf returns the path of an entry.
func pathOf(kind, name string) string {
	parameter := map[string]string{clientKind: "id", userKind: "user"}[kind]
	if parameter == "" {
		parameter = "name"
	}
	return kind + "?" + url.Values{parameter: {name}}.Encode()
}

// pageSize is how many marks one request asks for.
const pageSize = 500

// marks returns all marks.
func (s Server) marks(ctx context.Context) ([]api.Applied, error) {
	var all []api.Applied
	for after := ""; ; {
		var page []api.Applied
		query := url.Values{"limit": {strconv.Itoa(pageSize)}}
		if after != "" {
			query.Set("after", after)
		}
		if _, err := s.ask(ctx, Request{Method: http.MethodGet, Path: "applied?" + query.Encode()}, &page); err != nil {
			return nil, err
		}
		all = append(all, page...)
		if len(page) < pageSize {
			return all, nil
		}
		after = page[len(page)-1].Kind + "/" + page[len(page)-1].Name
	}
}

func markPath(kind, name string) string {
	return "applied?" + url.Values{"kind": {kind}, "name": {name}}.Encode()
}
