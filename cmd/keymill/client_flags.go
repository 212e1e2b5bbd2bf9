package main

import (
	"github.com/spf13/cobra"

	"keymill/cmd/keymill/internal/terminal"
)

// clientFlags are the flags that add and set share. A list is a repeated flag and not one
// with commas, because the name of an audience may contain a comma.
type clientFlags struct {
	grants, audiences, scopes, origins, introspect []string
	grace, idle, absolute                          string
}

func (l *clientFlags) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVar(&l.grants, "grant", nil, "a grant that it is allowed: client_credentials, refresh_token (repeat it for more)")
	f.StringArrayVar(&l.audiences, "audience", nil, "an audience that it may ask for (repeat it for more)")
	f.StringArrayVar(&l.scopes, "scope", nil, "a scope that it may ask for (repeat it for more)")
	f.StringArrayVar(&l.origins, "origin", nil, "a web origin that its pages come from, for CORS (repeat it for more)")
	f.StringArrayVar(&l.introspect, "introspect", nil, "an audience whose tokens it may ask /introspect about (repeat it for more)")
	f.StringVar(&l.grace, "grace", "", "how long a used refresh token is accepted again, 0s to 10m (\"\": refresh.grace)")
	f.StringVar(&l.idle, "idle", "", "how long a session lives without a refresh (\"\": refresh.idle)")
	f.StringVar(&l.absolute, "absolute", "", "how long a session lives at most (\"\": refresh.absolute)")
	_ = cmd.RegisterFlagCompletionFunc("grant", cobra.FixedCompletions([]string{"client_credentials", "refresh_token"}, cobra.ShellCompDirectiveNoFileComp))
}

// given returns the members of the admin API for the flags that were given.
func (l *clientFlags) given(cmd *cobra.Command) (map[string]any, error) {
	members := map[string]any{}
	for flag, list := range map[string][]string{
		"grant": l.grants, "audience": l.audiences, "scope": l.scopes, "origin": l.origins,
	} {
		if cmd.Flags().Changed(flag) {
			members[flag+"s"] = nonEmpty(list)
		}
	}
	if cmd.Flags().Changed("introspect") {
		members["introspect"] = nonEmpty(l.introspect)
	}
	for flag, text := range map[string]string{"grace": l.grace, "idle": l.idle, "absolute": l.absolute} {
		if !cmd.Flags().Changed(flag) {
			continue
		}
		d, err := lifetime(flag, text)
		if err != nil {
			return nil, err
		}
		members[flag] = d
	}
	return members, nil
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
