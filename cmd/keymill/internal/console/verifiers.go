package console

import (
	"fmt"
	"strconv"
	"time"

	"keymill/issuer/api"
)

// verifiersBody is the body of the page of verifiers.
type verifiersBody struct {
	Add              string // where the form leads
	Pinned, Observed table
}

// verifiers shows who fetches the key set. It leaves out the credentials of pinned verifiers.
func (s *site) verifiers(r *request) (*page, error) {
	pinned, next, err := getPage(r, s, "verifiers", func(v api.Verifier) string { return v.Name })
	if err != nil {
		return nil, err
	}
	observed, err := get[[]api.ObservedVerifier](r, s, "verifiers/observed", nil)
	if err != nil {
		return nil, err
	}
	b := verifiersBody{
		Add: r.to("verifier/add"),
		Pinned: table{
			Caption: "Pinned verifiers", Empty: "No verifier is pinned.",
			Columns: []string{"Name", "Last served", "Usual interval", "Keys that it lacks", "A rotation waits for it", "Change"},
		},
		Observed: table{
			Caption: "Seen without a name, since the server's start", Empty: "No one else has fetched the key set.",
			Columns: []string{"Address", "Through", "Program", "First", "Last", "Fetches", "Keys that it lacks"},
		},
	}
	for _, v := range pinned {
		waits := cell{Text: "no"}
		if v.Waited {
			waits = cell{Text: "yes", Kind: "bad"}
			if v.WaitedUntil != nil {
				waits.Hint = "ends " + relative(v.WaitedUntil.Sub(r.now))
			}
		}
		usual := none()
		if v.Usual != "" {
			usual = cell{Text: duration(v.Usual)}
		}
		b.Pinned.Rows = append(b.Pinned.Rows, []cell{id(v.Name), instant(v.Last, r.now), usual, lacks(v.Missing), waits, {Text: "Remove…", Href: r.to("verifier/remove", "name", v.Name)}})
	}
	if next != "" {
		b.Pinned.More, b.Pinned.MoreIs = r.to("verifiers", "after", next), "Next verifiers"
	}
	for _, o := range observed[:min(len(observed), maxObserved)] {
		b.Observed.Rows = append(b.Observed.Rows, []cell{
			id(o.Address), words(o.Through), {Text: short(o.Agent), Kind: "long"}, seen(o.First, r.now), seen(o.Last, r.now),
			{Text: strconv.FormatUint(o.Fetches, 10)}, lacks(o.Missing),
		})
	}
	if len(observed) > maxObserved {
		b.Observed.Caption += fmt.Sprintf(" (the first %d of %d)", maxObserved, len(observed))
	}
	return &page{Title: "Verifiers", Template: "verifiers", Body: b, Command: s.command("verifier", "list"), Live: true}, nil
}

// maxObserved bounds the addresses that are shown.
const maxObserved = 50

func seen(t, now time.Time) cell { return instant(&t, now) }

func lacks(kids []string) cell {
	if len(kids) == 0 {
		return cell{Text: "none"}
	}
	c := list(kids)
	c.Hint = strconv.Itoa(len(kids)) + " in all"
	return c
}

// waitedFor names the pinned verifiers that make the server refuse a rotation, and says when that ends.
func waitedFor(reach *api.Reach, now time.Time) cell {
	var names []string
	var until *time.Time // when the last of them is no longer waited for
	if reach != nil {
		for _, b := range reach.Behind {
			if !b.Waited {
				continue
			}
			names = append(names, b.Name)
			if b.WaitedUntil != nil && (until == nil || b.WaitedUntil.After(*until)) {
				until = b.WaitedUntil
			}
		}
	}
	if names == nil {
		return cell{Text: "no verifier"}
	}
	c := cell{Text: some(names)}
	if until != nil {
		c.Hint = "at most until " + stamp(until) + ", " + relative(until.Sub(now))
	}
	return c
}

// served shows how many of the pinned verifiers were served a key, and names the others.
func served(reach *api.Reach) cell {
	if reach == nil {
		return none()
	}
	c := cell{Text: fmt.Sprintf("%d of %d", reach.Served, reach.Pinned)}
	if len(reach.Behind) > 0 {
		var names []string
		for _, b := range reach.Behind {
			names = append(names, b.Name)
		}
		c.Hint = "not " + list(names).Text
	}
	return c
}
