package console

import (
	"html/template"
	"slices"
	"time"

	"keymill/cmd/keymill/internal/console/timeline"
	"keymill/issuer/api"
	"keymill/storage/audit"
)

// keysBody is the body of the page of keys.
type keysBody struct {
	Picture template.HTML
	Table   table
}

func (s *site) keys(r *request) (*page, error) {
	status, err := get[api.Status](r, s, "status", nil)
	if err != nil {
		return nil, err
	}
	keys, err := get[[]api.Key](r, s, "keys", nil)
	if err != nil {
		return nil, err
	}
	every, _ := time.ParseDuration(status.RotateEvery) // a picture without a plan if there is none
	chart := timeline.Chart{RotateEvery: every, Frozen: status.ClockFrozen, Now: clock(r, status)}
	for _, k := range keys {
		chart.Keys = append(chart.Keys, timeline.Key{Key: k})
	}
	revoked, err := s.revoked(r, chart.Now.Add(-2*every))
	if err != nil {
		return nil, err
	}
	chart.Keys = append(chart.Keys, revoked...)
	t := table{Caption: "Keys", Empty: "There are no keys.", Columns: []string{"Kid", "Algorithm", "Stage", "Published", "Signs from", "Stops", "Leaves"}}
	for _, k := range chart.Keys {
		t.Rows = append(t.Rows, keyRow(k, chart.Now))
	}
	return &page{Title: "Keys", Template: "keys", Body: keysBody{svg(timeline.SVG(chart)), t}, Command: s.command("key", "list"), Live: true}, nil
}

func keyRow(k timeline.Key, now time.Time) []cell {
	kinds := map[string]string{"active": "good", "revoked": "bad"}
	stage := state(kinds[k.Stage], k.Stage)
	if k.Revoked != nil {
		stage.Hint = relative(k.Revoked.Sub(now))
	}
	return []cell{id(k.KID), words(k.Alg), stage, instant(k.Publish, now), instant(k.Sign, now), instant(k.Stop, now), instant(k.Drop, now)}
}

// maxRevoked bounds the keys that are drawn although they are gone.
const maxRevoked = 10

// revoked returns keys that were revoked since a time. The server forgets their instants; the audit log has them.
func (s *site) revoked(r *request, since time.Time) ([]timeline.Key, error) {
	p, err := s.server.Audit(r.Context(), audit.Query{Limit: maxRevoked, Filter: audit.Filter{Action: "key.revoke", Since: since}})
	if err != nil || len(p.Records) == 0 {
		return nil, err
	}
	var keys []timeline.Key
	for _, record := range p.Records {
		keys = append(keys, timeline.Key{Key: api.Key{KID: record.Target, Alg: record.Detail["alg"], Stage: "revoked"}, Revoked: &record.Time})
	}
	events, err := s.server.Audit(r.Context(), audit.Query{Limit: 1000, Filter: audit.Filter{Action: "key", Since: since.Add(since.Sub(r.now))}})
	if err != nil {
		return nil, err
	}
	for _, e := range events.Records {
		i := slices.IndexFunc(keys, func(k timeline.Key) bool { return k.KID == e.Target })
		if i < 0 {
			continue
		}
		switch k := &keys[i]; e.Action {
		case "key.publish":
			k.Publish = &e.Time
		case "key.sign":
			k.Sign = &e.Time
		case "key.stop":
			k.Stop = &e.Time
		}
	}
	return keys, nil
}
