package main

import (
	"github.com/spf13/cobra"

	"keymill/cmd/keymill/internal/terminal"
	"keymill/issuer/api"
)

// clientFlags are the flags that add and set share. A list is a repeated flag and not one
// with commas, because the name of an audience may contain a comma.
type clientFlags struct {
	client api.NewClient
}

func (l *clientFlags) addTo(cmd *cobra.Command) {
	f, c := cmd.Flags(), &l.client
	f.StringArrayVar(&c.Grants, "grant", nil, "a grant that it is allowed: client_credentials, refresh_token (repeat it for more)")
	f.StringArrayVar(&c.Audiences, "audience", nil, "an audience that it may ask for (repeat it for more)")
	f.StringArrayVar(&c.Scopes, "scope", nil, "a scope that it may ask for (repeat it for more)")
	f.StringArrayVar(&c.Origins, "origin", nil, "a web origin that its pages come from, for CORS (repeat it for more)")
	f.StringArrayVar(&c.Introspect, "introspect", nil, "an audience whose tokens it may ask /introspect about (repeat it for more)")
	f.StringVar(&c.Grace, "grace", "", "how long a used refresh token is accepted again, 0s to 10m (\"\": refresh.grace)")
	f.StringVar(&c.Idle, "idle", "", "how long a session lives without a refresh (\"\": refresh.idle)")
	f.StringVar(&c.Absolute, "absolute", "", "how long a session lives at most (\"\": refresh.absolute)")
	_ = cmd.RegisterFlagCompletionFunc("grant", cobra.FixedCompletions([]string{"client_credentials", "refresh_token"}, cobra.ShellCompDirectiveNoFileComp))
}

// normalize turns what was given into what the admin API takes.
func (l *clientFlags) normalize() (err error) {
	c := &l.client
	for _, list := range []*[]string{&c.Grants, &c.Audiences, &c.Scopes, &c.Origins, &c.Introspect} {
		*list = nonEmpty(*list)
	}
	if c.Grace, err = lifetime("grace", c.Grace); err != nil {
		return err
	}
	if c.Idle, err = lifetime("idle", c.Idle); err != nil {
		return err
	}
	c.Absolute, err = lifetime("absolute", c.Absolute)
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
	}
}

// ifGiven returns value, or nil if the flag was not given.
func ifGiven[T any](cmd *cobra.Command, flag string, value *T) *T {
	if !cmd.Flags().Changed(flag) {
		return nil
	}
	return value
}

// lifetime returns a duration, or "" for the configured one. A grace of "0s" means no grace.
// For the other two 0 means the configured one, because no session lives for 0s.
func lifetime(flag, text string) (string, error) {
	switch {
	case text == "", flag != "grace" && (text == "0" || text == "0s"):
		return "", nil
	case text == "0":
		return "", terminal.WithHint(terminal.Usage("--grace 0 is ambiguous"), "--grace 0s for no grace, --grace \"\" for the configured one")
	}
	return goDuration(flag, text)
}
