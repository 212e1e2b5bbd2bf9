package adminapi

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"keymill/cmd/keymill/internal/apply"
)

// Apply sends a request of package apply. It is an apply.Server.
func (a *Client) Apply(ctx context.Context, r apply.Request) (apply.Answer, error) {
	resp, err := a.send(ctx, r.Method, r.Path, r.Header(), r.Body)
	if err != nil {
		return apply.Answer{}, err
	}
	switch resp.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusMisdirectedRequest, http.StatusTooManyRequests:
		_, err := a.read(resp) // it is about the caller, and says what to do
		no := (*Error)(nil)
		switch {
		case errors.As(err, &no) && no.Scope != "":
			err = &apply.LackError{Scope: no.Scope, Err: err}
		case no != nil && no.Code == "socket_only": // it is about the entry
			raw, err := json.Marshal(no)
			return apply.Answer{Status: no.Status, Body: raw}, err
		}
		return apply.Answer{}, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	if err != nil {
		return apply.Answer{}, a.connectionError(err)
	}
	return apply.Answer{Status: resp.StatusCode, ETag: resp.Header.Get("ETag"), Body: raw}, nil
}
