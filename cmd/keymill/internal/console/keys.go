package console

import (
	"html/template"
	"slices"
	"time"

	"keymill/cmd/keymill/internal/console/timeline"
	"keymill/issuer/api"
)

// keysBody is the body of the page of keys.
type keysBody struct {
	Picture template.HTML
	Table   table
	Links   []cell // to what can be changed
}

func (s *site) keys(r *request) (*page, error) {
	keys, status, err := s.readKeys(r)
	if err != nil {
		return nil, err
	}
	every, _ := time.ParseDuration(status.RotateEvery) // a picture without a plan if there is none
	chart := timeline.Chart{RotateEvery: every, Frozen: status.ClockFrozen, Now: clock(r, status)}
	for _, k := range keys {
		chart.Keys = append(chart.Keys, timeline.Key{Key: k})
	}
	chart.Keys = append(chart.Keys, s.revoked(chart.Now.Add(-2*every))...)
	t := table{Caption: "Keys", Empty: "There are no keys.", Columns: []string{"Kid", "Algorithm", "Stage", "Published", "Signs from", "Stops", "Leaves"}}
	pinned := slices.ContainsFunc(keys, func(k api.Key) bool { return k.Reach != nil })
	if pinned {
		t.Columns = append(t.Columns, "Served to")
	}
	for _, k := range chart.Keys {
		row := keyRow(k, chart.Now)
		if pinned {
			row = append(row, served(k.Reach))
		}
		t.Rows = append(t.Rows, row)
	}
	return &page{Title: "Keys", Template: "keys", Body: keysBody{svg(timeline.SVG(chart)), t, keyLinks(r, keys)}, Command: s.command("key", "list"), Live: true}, nil
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
func (s *site) revoked(since time.Time) []timeline.Key {
	var keys []timeline.Key
	seen := map[string]*timeline.Key{} // kid → its instants
	records, _ := s.watchedKeys.since(time.Time{})
	for _, e := range records {
		k := seen[e.Target]
		if k == nil {
			k = &timeline.Key{}
			seen[e.Target] = k
		}
		switch e.Action {
		case "key.publish":
			k.Publish = &e.Time
		case "key.sign":
			k.Sign = &e.Time
		case "key.stop":
			k.Stop = &e.Time
		case "key.revoke":
			k.Key.KID, k.Key.Alg, k.Key.Stage, k.Revoked = e.Target, e.Detail["alg"], "revoked", &e.Time
			if !e.Time.Before(since) {
				keys = append(keys, *k)
			}
		}
	}
	return keys[max(len(keys)-maxRevoked, 0):]
}
