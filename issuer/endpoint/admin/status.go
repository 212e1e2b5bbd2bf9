package admin

import (
	_ "embed"
	"encoding/json"
	"net/http"
	"net/url"

	"keymill/issuer/api"
)

func (a *API) status(r *http.Request) (api.Status, error) {
	issues, keys := a.cfg.Issues(), a.cfg.Keys.Status()
	var size int64
	if a.cfg.StoreBytes != nil {
		size = a.cfg.StoreBytes()
	}
	warnings := []api.Warning{}
	if a.cfg.Warnings != nil {
		warnings = append(warnings, a.cfg.Warnings(r.Context())...)
	}
	return api.Status{
		Version: a.cfg.Version, Issuer: a.cfg.Issuer.URL(), Ready: len(issues) == 0, Issues: issues, Warnings: warnings,
		ClockFrozen: keys.Frozen, Now: instant(keys.Now), StoreBytes: size,
		RotateEvery: keys.RotateEvery.String(), Propagation: keys.Propagation.String(), MaxAge: keys.MaxAge.String(),
	}, nil
}

func (a *API) audit(r *http.Request, query url.Values) (api.AuditRecords, error) {
	q, err := api.ParseAuditQuery(query)
	if err != nil {
		return api.AuditRecords{}, err
	}
	return a.cfg.Issuer.Audit(r.Context(), q)
}

// settings lists the settings in the order of their manual. There are few, so the list has no pages.
func (a *API) settings(*http.Request) ([]api.Setting, error) {
	list := []api.Setting{}
	if a.cfg.Settings != nil {
		list = append(list, a.cfg.Settings()...)
	}
	return list, nil
}

// activity lists the minutes of the last hour, oldest first.
func (a *API) activity(*http.Request) ([]api.ActivityMinute, error) {
	list := []api.ActivityMinute{}
	if a.cfg.Activity != nil {
		list = append(list, a.cfg.Activity()...)
	}
	return list, nil
}

// nodes has no pages: a store has few servers.
func (a *API) nodes(r *http.Request) (api.Nodes, error) {
	if a.cfg.Nodes == nil {
		return api.Nodes{Nodes: []api.Node{}, Leases: []api.Lease{}}, nil
	}
	return a.cfg.Nodes(r.Context())
}

// document is written by integration_test/openapi from Routes and the types of package api.
//
//go:embed openapi.json
var document []byte

// openAPI returns the OpenAPI document of this API.
func (a *API) openAPI(*http.Request) (json.RawMessage, error) { return document, nil }
