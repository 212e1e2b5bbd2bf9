package console

import (
	"html/template"
	"strconv"
	"time"

	"keymill/cmd/keymill/internal/console/plot"
	"keymill/issuer/api"
	"keymill/storage/audit"
)

// overviewBody is the body of the first page.
type overviewBody struct {
	Ready    bool
	Issues   []string
	Warnings []fact
	Facts    []fact
	Rotation table
	Plot     template.HTML
	Activity table
	Replays  []fact
	Newest   table
}

func (s *site) overview(r *request) (*page, error) {
	status, err := get[api.Status](r, s, "status", nil)
	if err != nil {
		return nil, err
	}
	p := &page{Title: "Overview", Template: "overview", Live: true}
	keys, err := get[[]api.Key](r, s, "keys", nil)
	rotation := rotations(r, keys, clock(r, status))
	if err != nil {
		rotation = table{}
		if err := p.without("The next rotation", err); err != nil {
			return nil, err
		}
	}
	activity, err := get[[]api.ActivityMinute](r, s, "activity", nil)
	if err != nil {
		return nil, err
	}
	nodes, err := s.nodeFacts(r)
	if err != nil {
		return nil, err
	}
	b := overviewBody{Ready: status.Ready, Issues: status.Issues, Facts: append(s.facts(r, status), nodes...), Rotation: rotation}
	b.Plot, b.Activity = svg(plot.SVG(activity)), activityTable(activity, r.now)
	for i, issue := range b.Issues {
		b.Issues[i] = whole(issue)
	}
	for _, w := range status.Warnings {
		b.Warnings = append(b.Warnings, fact{short(w.Check), cell{Text: whole(w.Detail)}})
	}
	newest, err := s.server.Audit(r.Context(), audit.Query{Limit: 8})
	if err == nil {
		b.Newest = auditTable(r, newest.Records)
		b.Newest.Caption, b.Newest.MoreIs, b.Newest.More = "Newest audit records", "All audit records", r.to("audit")
		b.Replays = s.replays(r)
	} else if err := p.without("The audit log", err); err != nil {
		return nil, err
	}
	p.Body = b
	if s.server.Data() != "" { // healthcheck asks no server on the network
		p.Command = s.command("healthcheck", "--json")
	}
	return p, nil
}

// clock returns the time of the key rings, which decides about keys, or the own time if there is none.
func clock(r *request, status api.Status) time.Time {
	if status.Now != nil {
		return *status.Now
	}
	return r.now
}

func (s *site) facts(r *request, status api.Status) []fact {
	followed := cell{Text: "follows the wall clock"}
	if status.ClockFrozen {
		followed = cell{Kind: "bad", Text: "frozen: the wall clock has jumped"}
	}
	where := "Data directory"
	if s.server.Data() == "" {
		where = "Server"
	}
	return []fact{
		{"Issuer", cell{Text: whole(status.Issuer), Kind: "id"}},
		{"Version", words(status.Version)},
		{where, cell{Text: whole(s.server.Name()), Kind: "id"}},
		{"Store", cell{Text: size(status.StoreBytes)}},
		{"Server's time", instant(status.Now, r.now)},
		{"Clock", followed},
		{"Rotation", cell{Text: "every " + duration(status.RotateEvery)}},
		{"Published before signing", cell{Text: duration(status.Propagation)}},
		{"Caches keep keys for", cell{Text: duration(status.MaxAge)}},
	}
}

// duration writes a duration of the API in short.
func duration(text string) string {
	d, err := time.ParseDuration(text)
	if err != nil {
		return "an unknown time"
	}
	return api.ShowDuration(d)
}

// rotations shows for each algorithm which key signs and when the next one does.
func rotations(r *request, keys []api.Key, now time.Time) table {
	t := table{Caption: "Next rotation", Columns: []string{"Algorithm", "Signs now", "Next key", "It signs from"}, Empty: "There are no keys."}
	t.More, t.MoreIs = r.to("keys"), "All keys"
	var order []string
	rows := map[string][]cell{} // algorithm → its row
	for _, k := range keys {
		if rows[k.Alg] == nil {
			order = append(order, k.Alg)
			rows[k.Alg] = []cell{words(k.Alg), state("bad", "no key"), state("bad", "no key is published"), instant(nil, now)}
		}
		switch row := rows[k.Alg]; {
		case k.Stage == "active":
			row[1] = id(k.KID)
		case k.Stage == "spare" && row[2].Kind == "bad":
			row[2], row[3] = id(k.KID), instant(k.Sign, now)
		}
	}
	for _, alg := range order {
		t.Rows = append(t.Rows, rows[alg])
	}
	return t
}

// tableMinutes is how many minutes one row of the table of the activity adds up, and tableRows how many rows it has.
const tableMinutes, tableRows = 5, 12

// activityTable has the numbers of the plot, newest first.
func activityTable(list []api.ActivityMinute, now time.Time) table {
	t := table{Caption: "The same in steps of five minutes", Columns: []string{"From"}, Empty: "No minute was counted."}
	for _, row := range plot.Rows() {
		t.Columns = append(t.Columns, row.Name)
	}
	for end := len(list); end > 0 && len(t.Rows) < tableRows; end -= tableMinutes {
		part := list[max(end-tableMinutes, 0):end]
		cells := []cell{instant(&part[0].Begin, now)}
		for _, row := range plot.Rows() {
			var sum uint64
			for _, m := range part {
				sum += row.Count(m)
			}
			cells = append(cells, cell{Text: strconv.FormatUint(sum, 10)})
		}
		t.Rows = append(t.Rows, cells)
	}
	return t
}

// replays counts how refresh tokens were used again.
func (s *site) replays(r *request) (list []fact) {
	records, all := s.watchedReplays.since(r.now.Add(-replayTime))
	for _, kind := range []struct{ action, name string }{
		{"session.replay", "Replays"}, {"session.late_retry", "Late retries"}, {"session.rolled_back", "Rolled back"}, {"session.shared", "Shared tokens"},
	} {
		n := 0
		for _, e := range records {
			if e.Action == kind.action {
				n++
			}
		}
		c := cell{Text: strconv.Itoa(n), Href: r.to("audit", "action", kind.action, "since", "24h"), Hint: "in 24 hours"}
		if n > 0 {
			c.Kind = "bad"
		}
		if !all {
			c.Hint = "in 24 hours, as far as the log was read yet"
		}
		list = append(list, fact{kind.name, c})
	}
	return list
}
