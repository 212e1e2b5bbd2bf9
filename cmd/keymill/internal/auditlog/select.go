package auditlog

import (
	"net/url"
	"time"

	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/storage/audit"
)

// Select sets the filter from flags: since, until, user, client, action and store. With since, all
// records are meant, unless their number was given.
func (t *Tail) Select(flags url.Values, now time.Time) error {
	switch {
	case t.Newest < 0 || t.Newest > pageRecords:
		return terminal.Usage("-n %d is not between 0 and %d", t.Newest, pageRecords)
	case t.All && t.Bounded:
		return terminal.Usage("-n and --all cannot be combined")
	case t.Follow && flags.Has("until"):
		return terminal.Usage("--follow and --until cannot be combined")
	case t.Follow && flags.Has("store"):
		return terminal.Usage("--follow and --store cannot be combined: no server writes to the file")
	}
	t.Filter = audit.Filter{User: flags.Get("user"), Client: flags.Get("client"), Action: flags.Get("action")}
	var err error
	if t.Filter.Since, err = parseTime(flags, "since", now); err != nil {
		return err
	}
	if t.Filter.Until, err = parseTime(flags, "until", now); err != nil {
		return err
	}
	if flags.Has("since") && flags.Has("until") && !t.Filter.Since.Before(t.Filter.Until) {
		return terminal.Usage("--since %s is not before --until %s", flags.Get("since"), flags.Get("until"))
	}
	t.All = t.All || flags.Has("since") && !t.Bounded
	return nil
}

// parseTime reads an instant in RFC 3339 or a duration back from now.
func parseTime(flags url.Values, name string, now time.Time) (time.Time, error) {
	text := flags.Get(name)
	if text == "" {
		return time.Time{}, nil
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, nil
	}
	if back, err := config.ParseDuration(text); err == nil && back >= 0 {
		return now.Add(-back), nil
	}
	return time.Time{}, terminal.Usage("--%s %q is neither a time like 2027-01-31T00:00:00Z nor a duration like 2h or 7d", name, text)
}
