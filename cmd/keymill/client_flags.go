package main

import (
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"keymill/cmd/keymill/internal/adminapi"
	"keymill/cmd/keymill/internal/claimflag"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/issuer/api"
)

// clientFlags are the flags that add and set share. A list is a repeated flag and not one
// with commas, because the name of an audience may contain a comma.
type clientFlags struct {
	client api.NewClient
	claims []string
}

func (l *clientFlags) addTo(cmd *cobra.Command) {
	f, c := cmd.Flags(), &l.client
	f.StringArrayVar(&c.Grants, "grant", nil, "a grant that the client may use: client_credentials or refresh_token (repeatable)")
	f.StringArrayVar(&c.Audiences, "audience", nil, "an audience that the client may request (repeatable)")
	f.StringArrayVar(&c.Scopes, "scope", nil, "a scope that the client may request (repeatable)")
	f.StringArrayVar(&c.Origins, "origin", nil, "an origin of the client's pages or app, such as https://app.example.com (repeatable)")
	f.StringArrayVar(&c.Introspect, "introspect", nil, "an audience whose tokens the client may introspect (repeatable)")
	f.StringVar(&c.Grace, "grace", "", "how long a replaced refresh token is still accepted, instead of refresh.grace: 0s to 10m")
	f.StringVar(&c.Idle, "idle", "", "how long a session lives without a refresh, instead of refresh.idle")
	f.StringVar(&c.Absolute, "absolute", "", "how long a session lives at most, instead of refresh.absolute")
	f.StringArrayVar(&l.claims, "claim", nil, "NAME=VALUE, a claim of the tokens that the client gets for itself (repeatable); a VALUE that is a JSON number, true, false, null, list or text in quotes is that, and any other is a text")
	_ = cmd.RegisterFlagCompletionFunc("grant", cobra.FixedCompletions([]string{"client_credentials", "refresh_token"}, cobra.ShellCompDirectiveNoFileComp))
}

// normalize converts the values of the flags for the admin API.
func (l *clientFlags) normalize() (err error) {
	c := &l.client
	for _, list := range []*[]string{&c.Grants, &c.Audiences, &c.Scopes, &c.Origins, &c.Introspect} {
		*list = nonEmpty(*list)
	}
	if err := checkScopes(c.Scopes); err != nil {
		return err
	}
	if c.Claims, err = claimflag.ParseFlat(l.claims); err != nil {
		return err
	}
	if c.Grace, err = sessionDuration("grace", c.Grace); err != nil {
		return err
	}
	if c.Idle, err = sessionDuration("idle", c.Idle); err != nil {
		return err
	}
	c.Absolute, err = sessionDuration("absolute", c.Absolute)
	return err
}

// change returns the change that the given flags describe.
func (l *clientFlags) change(cmd *cobra.Command) api.ClientChange {
	c := &l.client
	return api.ClientChange{
		Grants:     ifGiven(cmd, "grant", &c.Grants),
		Audiences:  ifGiven(cmd, "audience", &c.Audiences),
		Scopes:     ifGiven(cmd, "scope", &c.Scopes),
		Origins:    ifGiven(cmd, "origin", &c.Origins),
		Introspect: ifGiven(cmd, "introspect", &c.Introspect),
		Grace:      ifGiven(cmd, "grace", &c.Grace),
		Idle:       ifGiven(cmd, "idle", &c.Idle),
		Absolute:   ifGiven(cmd, "absolute", &c.Absolute),
		Claims:     ifGiven(cmd, "claim", &c.Claims),
	}
}

// checkScopes refuses a scope with a comma. It is a valid scope (RFC 6749, section 3.3), but in a
// command it is nearly always a list that was meant to be several.
func checkScopes(scopes []string) error {
	for _, scope := range scopes {
		if hint := terminal.AsRepeated("scope", scope); hint != "" {
			return terminal.WithHint(terminal.Usage("--scope %q is one scope with a comma or a space", scope), "%s", hint)
		}
	}
	return nil
}

// explainLists adds a hint to the server's refusal if a value looks like a list. The name of an
// audience may have a comma, so only the server knows.
func (l *clientFlags) explainLists(err error) error {
	var refused *adminapi.Error
	if !errors.As(err, &refused) {
		return err
	}
	c := &l.client
	for _, list := range []struct {
		flag   string
		values []string
	}{{"audience", c.Audiences}, {"introspect", c.Introspect}, {"grant", c.Grants}, {"origin", c.Origins}} {
		for _, value := range list.values {
			if hint := terminal.AsRepeated(list.flag, value); hint != "" && strings.Contains(refused.Detail, value[:min(len(value), 100)]) {
				return terminal.WithHint(err, "%s", hint)
			}
		}
	}
	return err
}

// ifGiven returns value, or nil if the flag was not given.
func ifGiven[T any](cmd *cobra.Command, flag string, value *T) *T {
	if !cmd.Flags().Changed(flag) {
		return nil
	}
	return value
}

// sessionDuration returns a duration, or "" for the configured one. A grace of "0s" means no grace.
// For the other two 0 means the configured one, because no session lives for 0s.
func sessionDuration(flag, text string) (string, error) {
	switch {
	case text == "", flag != "grace" && (text == "0" || text == "0s"):
		return "", nil
	case text == "0":
		return "", terminal.WithHint(terminal.Usage("--grace 0 is ambiguous"), "--grace 0s for no grace, --grace \"\" for the configured one")
	}
	return toAPIDuration(flag, text)
}
