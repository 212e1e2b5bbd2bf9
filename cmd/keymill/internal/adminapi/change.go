package adminapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
)

// Tagged asks for one entry, and returns it with its entity tag.
func Tagged[T any](ctx context.Context, a *Client, path string) (entry T, tag string, err error) {
	resp, err := a.send(ctx, http.MethodGet, path, nil, nil)
	if err != nil {
		return entry, "", err
	}
	raw, err := a.read(resp)
	if err != nil {
		return entry, "", err
	}
	if err := json.Unmarshal(raw, &entry); err != nil {
		return entry, "", fmt.Errorf("cannot read the server's answer: %w", err)
	}
	return entry, resp.Header.Get("ETag"), nil
}

// Change changes an entry if it still has the entity tag. The server refuses with precondition_failed otherwise. An empty
// tag sends no condition.
func (a *Client) Change(ctx context.Context, method, path, tag string, body any) ([]byte, error) {
	header := http.Header{}
	if tag != "" {
		header.Set("If-Match", tag)
	}
	resp, err := a.send(ctx, method, path, header, body)
	if err != nil {
		return nil, err
	}
	return a.read(resp)
}
