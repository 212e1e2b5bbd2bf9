package endpoint

import (
	"context"
	"strings"
	"testing"

	"keymill/issuer/api"
	"keymill/storage"
)

// TestAdminAPIListsTheNodes, and says so if the server has its store alone or cannot reach it.
func TestAdminAPIListsTheNodes(t *testing.T) {
	w := newWorld(t)
	if a := w.expect(200, "GET", "/admin/v1/nodes", ""); !strings.Contains(a.body, `"shared":false,"node":"","nodes":[],"leases":[]`) {
		t.Error(a.body)
	}
	var fault error
	w = newWorldAt(t, testIssuer, func(c *Config) {
		c.ListNodes = func(context.Context) (api.Nodes, error) {
			return api.Nodes{Shared: true, Node: "a", Nodes: []api.Node{{ID: "a", Algorithms: []string{}}}, Leases: []api.Lease{{Name: "chain", Node: "a"}}}, fault
		}
	})
	if a := w.expect(200, "GET", "/admin/v1/nodes", ""); !strings.Contains(a.body, `"shared":true,"node":"a","nodes":[{"id":"a"`) || !strings.Contains(a.body, `"name":"chain"`) {
		t.Error(a.body)
	}
	fault = storage.ErrUnavailable
	if a := w.expect(503, "GET", "/admin/v1/nodes", ""); a.header.Get("Retry-After") == "" {
		t.Error(a.header, a.body)
	}
}
