package apply

import (
	"bytes"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"keymill/cmd/keymill/internal/terminal"
	"keymill/issuer/api"
	"keymill/issuer/secret"
)

// client compares a client, and checks that what it refers to will be there.
func (p *planner) client(e *entry, s *Step) error {
	if err := p.references(e); err != nil {
		return err
	}
	var now api.Client
	exists, err := p.read(s, &now)
	if err != nil {
		return err
	}
	want := e.client
	switch {
	case !exists:
		return addClient(e, s)
	case now.Public != want.Public:
		return e.at.wrong("%s is %s, which cannot change; remove it first, or use another id", e.label(), kindOf(now.Public))
	}
	s.differs("grants", now.Grants, want.Grants)
	s.differs("audiences", now.Audiences, want.Audiences)
	s.differs("scopes", now.Scopes, want.Scopes)
	s.differs("origins", now.Origins, want.Origins)
	s.differs("introspect", now.Introspect, want.Introspect)
	s.differ("grace", now.Grace, want.Grace)
	s.differ("idle", now.Idle, want.Idle)
	s.differ("absolute", now.Absolute, want.Absolute)
	s.claimsDiffer(now.Claims, want.Claims)
	if mayShorten(now.Idle, want.Idle) || mayShorten(now.Absolute, want.Absolute) {
		s.Warnings = append(s.Warnings, "holds for sessions that exist as well: those that are past the new time end")
	}
	want.Disabled = now.Disabled // who disabled a client does not want a file to enable it
	if e.secret != nil && secret.Version([]secret.Record{{Hash: e.secret[:]}}) != now.SecretVersion {
		s.Details = append(s.Details, "another secret")
		s.Warnings = append(s.Warnings, "the old secret stops working at once")
	} else {
		want.SecretSHA256 = ""
	}
	if len(s.Details) > 0 {
		s.Act, s.body = change, want
	}
	return nil
}

// mayShorten reports whether a lifetime can become shorter. "" is that of the server, which is not known here.
func mayShorten(now, want string) bool {
	before, err1 := time.ParseDuration(now)
	after, err2 := time.ParseDuration(want)
	return now != want && (err1 != nil || err2 != nil || after < before)
}

// addClient completes the step of a client that does not exist.
func addClient(e *entry, s *Step) error {
	want := e.client
	if !want.Public && e.secret == nil {
		return terminal.WithHint(e.at.wrong("%s is new and needs secret_sha256 or secret_file, or public: true", e.label()), makeSecret)
	}
	s.Act, s.body = add, want
	s.Details = []string{kindOf(want.Public)}
	s.shows("grants", want.Grants)
	s.shows("audiences", want.Audiences)
	s.shows("scopes", want.Scopes)
	s.shows("origins", want.Origins)
	s.shows("introspect", want.Introspect)
	s.show("grace", want.Grace)
	s.show("idle", want.Idle)
	s.show("absolute", want.Absolute)
	s.claimsDiffer(nil, want.Claims)
	return nil
}

func kindOf(public bool) string {
	if public {
		return "public"
	}
	return "confidential"
}

// references checks the audiences and scopes of a client before anything is changed. The server checks
// them again.
func (p *planner) references(e *entry) error {
	known := map[string]bool{}
	for _, name := range slices.Concat(e.client.Audiences, e.client.Introspect) {
		scopes, err := p.scopesOf(e, name)
		if err != nil {
			return err
		}
		if slices.Contains(e.client.Audiences, name) {
			maps.Copy(known, scopes)
		}
	}
	for _, scope := range e.client.Scopes {
		if !known[scope] {
			return e.at.wrong("%s has scope %q, which none of its audiences has", e.label(), cut(scope))
		}
	}
	return nil
}

// scopesOf returns the scopes of an audience as they will be.
func (p *planner) scopesOf(e *entry, name string) (map[string]bool, error) {
	if scopes := p.scopes[name]; scopes != nil {
		return scopes, nil
	}
	var a api.Audience
	exists, err := p.read(&Step{Kind: audienceKind, Name: name, at: e.at}, &a)
	if err != nil {
		return nil, err
	}
	if !exists {
		return nil, e.at.wrong("%s names audience %q, which does not exist and is in no file", e.label(), cut(name))
	}
	p.scopes[name] = setOf(a.Scopes)
	return p.scopes[name], nil
}

func setOf(list []string) map[string]bool {
	set := map[string]bool{}
	for _, s := range list {
		set[s] = true
	}
	return set
}

// show says what is added, unless it is the default.
func (s *Step) show(key, want string) {
	if want != "" {
		s.Details = append(s.Details, key+" "+showDuration(want))
	}
}

// shows is show for lists.
func (s *Step) shows(key string, want []string) {
	if len(want) > 0 {
		s.Details = append(s.Details, key+" "+showList(want))
	}
}

// differ says what changes if the two values differ.
func (s *Step) differ(key, now, want string) {
	if now != want {
		s.Details = append(s.Details, key+" "+showDuration(now)+" → "+showDuration(want))
	}
}

// differs is differ for lists.
func (s *Step) differs(key string, now, want []string) {
	if !slices.Equal(now, want) {
		s.Details = append(s.Details, key+" "+showList(now)+" → "+showList(want))
	}
}

// claimsDiffer is differ for claims.
func (s *Step) claimsDiffer(now, want api.Claims) {
	s.Details = append(s.Details, claimDifferences(now, want)...)
}

// showMap shows a mapping as name=claim of the user.
func showMap(m api.ClaimMap) string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		list = append(list, cut(name+"="+m[name]))
	}
	return showList(list)
}

func showList(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, " ")
}

// showDuration shows a duration as people write it, and any other text as it is.
func showDuration(text string) string {
	if text == "" {
		return "default"
	}
	if d, err := time.ParseDuration(text); err == nil {
		return api.ShowDuration(d)
	}
	return text
}

// sameClaims reports whether the claims have the same values. The order of members and the writing of
// texts do not matter.
func sameClaims(a, b api.Claims) bool {
	return maps.EqualFunc(a, b, sameValue)
}

func sameValue(a, b json.RawMessage) bool {
	return reflect.DeepEqual(valueOf(a), valueOf(b))
}

func valueOf(raw json.RawMessage) (v any) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if d.Decode(&v) != nil {
		return string(raw)
	}
	return v
}

// claimDifferences names the claims that differ. Their values can be private, so they are left out.
func claimDifferences(now, want api.Claims) []string {
	var list []string
	names := slices.Sorted(maps.Keys(want))
	for _, name := range slices.Sorted(maps.Keys(now)) {
		if _, kept := want[name]; !kept {
			list = append(list, "claim "+cut(name)+" removed")
		}
	}
	for _, name := range names {
		switch before, there := now[name]; {
		case !there:
			list = append(list, "claim "+cut(name)+" added")
		case !sameValue(before, want[name]):
			list = append(list, "claim "+cut(name)+" changed")
		}
	}
	return list
}
