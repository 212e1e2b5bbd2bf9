package keychange

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"

	"keymill/cmd/keymill/internal/adminapi"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/cmd/keymill/internal/verifierlist"
	"keymill/issuer/api"
)

// Revoke revokes a key. It returns the answer as it was sent too. A flush that the server refuses revokes nothing, so the
// error says how to do that.
func Revoke(ctx context.Context, server *adminapi.Client, req api.RevokeKeyRequest) (api.Revocation, []byte, error) {
	r, raw, err := adminapi.Ask[api.Revocation](ctx, server, http.MethodPost, "keys/revoke", req)
	var refused *adminapi.Error
	if !req.Flush || !errors.As(err, &refused) {
		return r, raw, err
	}
	kid := terminal.ShellWord(req.KID)
	switch refused.Code {
	case "no_reserve":
		err = terminal.WithHint(err, "the key is not revoked; to revoke it now and flush as soon as possible: "+
			"keymill key revoke %s; keymill key rotate --flush --wait 1m --alg ALG", kid)
	case "invalid_request":
		err = terminal.WithHint(err, "the key is not revoked; keymill key revoke %s", kid)
	}
	return r, raw, err
}

// PrintRevocation writes what a revocation did, and who may still hold the key.
func PrintRevocation(w io.Writer, r api.Revocation) error {
	t := terminal.NewTable(w)
	t.Row("revoked:", r.KID, r.Alg+", was "+r.Was)
	for _, kid := range r.Also {
		t.Row("", kid, "the same key under another kid")
	}
	if r.CachedUntil != nil {
		t.Row("", "", "services with a cached key set may accept its tokens until "+terminal.FormatTime(r.CachedUntil))
	}
	if r.Was == "active" || r.Successor != "" {
		t.Row("signs now:", terminal.OrDash(r.Successor), "")
	}
	if r.UnknownUntil != nil {
		t.Row("", "", "services with a cached key set may refuse its tokens until "+terminal.FormatTime(r.UnknownUntil))
	}
	for n, h := range r.Holders {
		t.Row([]string{"may hold it:", ""}[min(n, 1)], h.Name, "last came "+terminal.FormatTime(&h.Last))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if r.Observed > 0 {
		and := "may hold it: "
		if len(r.Holders) > 0 {
			and = "and "
		}
		if _, err := fmt.Fprintf(w, "%s%s; see \"keymill verifier list --observed\"\n", and, plural(r.Observed, "observed address")); err != nil {
			return err
		}
	}
	return printEnd(w, r.MissingNodes, r.Note)
}

// plural is terminal.Count for a noun whose plural ends in "es".
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ses", n, noun)
}

// A Watch follows a revoked key until no pinned verifier holds it.
type Watch struct {
	Server  *adminapi.Client
	Revoked api.Revocation
	Out     io.Writer // gets a line for each verifier that was served a set without the key
	Errs    io.Writer // gets what is waited for

	holders map[string]bool // by name
	total   int             // how many there were
}

// Run follows the key. It returns nil when no pinned verifier holds the key any longer, and an error if ctx ends before.
func (w *Watch) Run(ctx context.Context) error {
	w.holders = map[string]bool{}
	for _, h := range w.Revoked.Holders {
		w.holders[h.Name] = true
	}
	w.total = len(w.holders)
	l := newLine(w.Errs)
	defer l.end()
	for {
		lines, err := w.look(ctx)
		if ctx.Err() != nil {
			return w.interrupted()
		}
		if err != nil && !passes(err) {
			return err
		}
		if len(lines) > 0 {
			l.end()
		}
		for _, text := range lines {
			if _, err := fmt.Fprintln(w.Out, terminal.OneLine(text)); err != nil {
				return err
			}
		}
		if err == nil && len(w.holders) == 0 {
			_, err = fmt.Fprintln(w.Out, "no pinned verifier holds the key")
			return err
		}
		short, long := w.waitedFor(err)
		l.show(share{int64(w.total - len(w.holders)), int64(w.total)}, short, long)
		if !sleep(ctx, pollEvery) {
			return w.interrupted()
		}
	}
}

// look asks who holds the key now, and returns a line for each verifier that does not any longer.
func (w *Watch) look(ctx context.Context) (lines []string, err error) {
	list, _, err := adminapi.AskAll(ctx, w.Server, "verifiers", func(v api.Verifier) string { return v.Name })
	if err != nil {
		return nil, err
	}
	pinned := map[string]api.Verifier{}
	for _, v := range list {
		pinned[v.Name] = v
		if w.holds(v) && !w.holders[v.Name] { // an answer that was under way when the key was revoked
			w.holders[v.Name] = true
			w.total++
		}
	}
	for _, name := range slices.Sorted(maps.Keys(w.holders)) {
		switch v, is := pinned[name]; {
		case !is:
			lines = append(lines, name+" was removed")
		case !w.holds(v):
			lines = append(lines, fmt.Sprintf("%s was served a set without it, last at %s", name, terminal.FormatTime(v.Last)))
		default:
			continue
		}
		delete(w.holders, name)
	}
	return lines, nil
}

// holds reports whether the set that v was served last has the key, under any of its kids.
func (w *Watch) holds(v api.Verifier) bool {
	return Holds(v, append([]string{w.Revoked.KID}, w.Revoked.Also...)...)
}

// Holds reports whether the set that v was served last has one of the keys.
func Holds(v api.Verifier, kids ...string) bool {
	return slices.ContainsFunc(v.Served, func(kid string) bool { return slices.Contains(kids, kid) })
}

// waitedFor names who still holds the key, or says that the server does not answer.
func (w *Watch) waitedFor(err error) (short, long string) {
	if err != nil {
		return "the server does not answer", "waiting: the server does not answer: " + terminal.Plain(err)
	}
	names := verifierlist.Names(slices.Sorted(maps.Keys(w.holders)))
	return "waiting for " + names, "waiting: for " + names
}

func (w *Watch) interrupted() error {
	names := verifierlist.Names(slices.Sorted(maps.Keys(w.holders)))
	if names == "" {
		return errors.New("interrupted; the key is revoked")
	}
	return terminal.WithHint(fmt.Errorf("interrupted; the key is revoked, and may still be held by %s", names),
		"to look again: keymill verifier list --holding %s", terminal.ShellWord(w.Revoked.KID))
}
