package console

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"keymill/storage/audit"
)

// auditBody is the body of the page of the audit log.
type auditBody struct {
	listBody
	Chain fact
	Live  cell // the link that turns the live page on or off
}

func (s *site) audit(r *request) (*page, error) {
	q := audit.Query{Limit: pageRows, Filter: audit.Filter{User: r.field("user"), Client: r.field("client"), Action: r.field("action")}}
	var err error
	if q.Since, err = r.past("since"); err != nil {
		return nil, err
	}
	if q.Until, err = r.past("until"); err != nil {
		return nil, err
	}
	filtered := q.Filter != audit.Filter{}
	if before := r.field("before"); before != "" {
		if q.From, err = audit.ParseCursor(before); err != nil {
			return nil, badInput{"The parameter before is no place in the audit log."}
		}
	}
	found, err := s.server.Audit(r.Context(), q)
	if err != nil {
		return nil, err
	}
	status, err := s.status(r)
	if err != nil {
		return nil, err
	}
	body := auditBody{Chain: fact{"Chain", chain(found.Records, filtered)}}
	body.Table, body.Path, body.Form = auditTable(r, found.Records), r.to("audit"), r.auditForm()
	if found.More {
		body.Table.More, body.Table.MoreIs = r.auditLink("before", found.Next.String()), "Older records"
	}
	p := &page{Title: "Audit", Template: "audit", Command: s.command(r.tail()...), Live: r.field("live") == "1" && !r.URL.Query().Has("before")}
	if body.Live = (cell{Text: "Show new records as they come", Href: r.auditLink("live", "1")}); p.Live {
		body.Live = cell{Text: "Stop showing new records", Href: r.auditLink("live", "")}
	}
	for _, w := range status.Warnings { // audit tail prints these as well: missing records are not among those that are shown
		if w.Check == "audit" {
			p.Notes = append(p.Notes, whole(w.Detail))
		}
	}
	p.Body = body
	return p, nil
}

// filters are the parameters of the form, with their labels.
var filters = []input{
	{"user", "User", "", "a name, or id: and an id"}, {"client", "Client", "", "its id"}, {"action", "Action", "", "such as key or key.rotate"},
	{"since", "Since", "", "2h, 7d, or a time in UTC"}, {"until", "Until", "", "1h, or a time in UTC"},
}

func (r *request) auditForm() []input {
	form := slices.Clone(filters)
	for i := range form {
		form[i].Value = whole(r.field(form[i].Name))
	}
	return form
}

// auditLink keeps the filters.
func (r *request) auditLink(name, value string) string {
	parameters := []string{name, value}
	for _, f := range filters {
		parameters = append(parameters, f.Name, r.field(f.Name))
	}
	return r.to("audit", parameters...)
}

// tail returns the command line with the same filters.
func (r *request) tail() []string {
	words := []string{"audit", "tail"}
	for _, f := range filters {
		if value := r.field(f.Name); value != "" {
			words = append(words, "--"+f.Name, value)
		}
	}
	return words
}

// past reads a time: in RFC 3339, or a duration back from now, in which a day is 24 hours.
func (r *request) past(name string) (time.Time, error) {
	text := r.field(name)
	if text == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	if days, found := strings.CutSuffix(text, "d"); found {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return r.now.Add(-time.Duration(n) * 24 * time.Hour), nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return r.now.Add(-d), nil
	}
	return time.Time{}, badInput{fmt.Sprintf("“%s” is no time: write a duration back from now such as 2h or 7d, or a time such as 2027-01-31T00:00:00Z.", bounded(text, 100))}
}

// auditTable shows records, newest first.
func auditTable(r *request, records []audit.Record) table {
	t := table{Caption: "Records, newest first", Empty: "There are no such records.", Columns: []string{"No.", "Time", "Action", "By", "Target", "Details"}}
	for _, e := range slices.Backward(records) {
		seq := cell{Text: "waits", Kind: "dull"}
		if e.Seq > 0 {
			seq = cell{Text: strconv.FormatUint(e.Seq, 10)}
		}
		t.Rows = append(t.Rows, []cell{seq, instant(&e.Time, r.now), words(e.Action), id(e.By), id(e.Target), {Text: details(e.Detail), Kind: "long"}})
	}
	return t
}

// maxDetails bounds the details of one record.
const maxDetails = 160

func details(detail map[string]string) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(detail)) {
		parts = append(parts, short(name)+"="+short(detail[name]))
	}
	return bounded(strings.Join(parts, " "), maxDetails)
}

// chain compares the records of a page with each other: each holds the hash of the one before it. The server
// checks the whole chain at its start, and warns if records are missing.
func chain(records []audit.Record, filtered bool) cell {
	compared := 0
	for i := 1; i < len(records); i++ {
		before, after := records[i-1], records[i]
		if !filtered && before.Seq > 0 && after.Seq > before.Seq+1 {
			return cell{Kind: "bad", Text: fmt.Sprintf("between %d and %d, records are missing: %d", before.Seq, after.Seq, after.Seq-before.Seq-1)}
		}
		if after.Seq == 0 || after.Seq != before.Seq+1 {
			continue
		}
		line, err := before.Line()
		hash := sha256.Sum256(line)
		if err != nil || hex.EncodeToString(hash[:]) != after.Previous {
			return cell{Kind: "bad", Text: fmt.Sprintf("record %d does not hold the hash of record %d", after.Seq, before.Seq)}
		}
		compared++
	}
	switch {
	case compared > 0 && !filtered:
		return cell{Kind: "good", Text: fmt.Sprintf("checked: %d records hold the hash of the one before", compared)}
	case compared > 0:
		return cell{Kind: "good", Text: fmt.Sprintf("checked where records are neighbours: %d times", compared)}
	}
	return cell{Kind: "dull", Text: "not checked: no two neighbours are shown"}
}
