package main

import (
	"keymill/cmd/keymill/internal/terminal/terminaltest"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestDoctorChecksAStoreWhoseMarkIsWrong as any other: before an administrator accepts an older copy, or moves a
// mark away, doctor must have found what is damaged in the store. It changes nothing.
func TestDoctorChecksAStoreWhoseMarkIsWrong(t *testing.T) {
	t.Parallel()
	p := made(t)
	older := p.read("keymill.db")
	p.start().stop()
	newest, mark := p.read("keymill.db"), p.read("keymill.mark")
	for name, tt := range map[string]struct{ store, mark, want string }{
		"an older copy":             {older, mark, " of service are missing; put the newest store back; or start the server"},
		"the mark of another store": {newest, made(t).read("keymill.mark"), "the mark of the store does not fit"},
		"another file":              {newest, "precious", "it has 8 bytes, a mark has 8192; if it is a damaged mark, move it away"},
		"noise":                     {newest, strings.Repeat("x", 8192), "it is no mark; if it is a damaged one, move it away"},
	} {
		for _, also := range []struct {
			check string // fails beside the mark; "" if none does
			spoil func()
		}{
			{"", func() {}},
			{"damage", func() { p.putRecord("denied/x", "2") }},
			{"keys", func() { p.deleteFirst("private/") }},
			{"audit", func() { p.deleteFirst("audit/log/") }},
		} {
			p.overwrite(tt.store)
			if err := os.WriteFile(p.at("keymill.mark"), []byte(tt.mark), 0o600); err != nil {
				t.Fatal(err)
			}
			also.spoil()
			before := snapshot(t, p.dir)
			checks, code := p.diagnosis()
			failed := slices.DeleteFunc(slices.Sorted(maps.Keys(checks)), func(name string) bool { return checks[name].OK })
			want := slices.DeleteFunc(slices.Sorted(slices.Values([]string{"mark", also.check})), func(name string) bool { return name == "" })
			if code != 1 || !slices.Equal(failed, want) || !strings.Contains(checks["mark"].Detail, tt.want) {
				t.Errorf("%s, %s: code %d, %v failed: %+v", name, also.check, code, failed, checks)
			}
			for _, check := range []string{"master key", "damage", "references", "keys", "sessions", "audit"} {
				if checks[check].Check == "" && also.check != "keys" {
					t.Errorf("%s, %s: %s was not checked", name, also.check, check)
				}
			}
			if after := snapshot(t, p.dir); after != before {
				t.Errorf("%s, %s: the disk changed", name, also.check)
			}
		}
	}
}

// TestTheServersUserReadsInDoctorWhoseTheMarkIs, with the line that mends it, beside all other checks.
func TestTheServersUserReadsInDoctorWhoseTheMarkIs(t *testing.T) {
	terminaltest.NeedRoot(t)
	t.Parallel()
	p := serversPlace(t)
	p.give(p.at("keymill.mark"), 0, 0, 0o600)
	checks, code := p.diagnosisWith(environment(), "--config", p.dir+"/keymill.yaml")
	if c := checks["mark"]; code != 1 || c.OK || !strings.HasSuffix(c.Detail, "; chown 1001 "+p.at("keymill.mark")) {
		t.Errorf("code %d, %+v", code, c)
	}
	for _, name := range []string{"master key", "damage", "references", "keys", "sessions"} {
		if !checks[name].OK {
			t.Errorf("%s: %+v", name, checks[name])
		}
	}
}

func (p *place) read(name string) string {
	p.t.Helper()
	b, err := os.ReadFile(p.at(name))
	if err != nil {
		p.t.Fatal(err)
	}
	return string(b)
}
