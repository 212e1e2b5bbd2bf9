package main

import (
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"keymill/cmd/keymill/internal/adminapi"
	"keymill/cmd/keymill/internal/claimflag"
	"keymill/cmd/keymill/internal/commandline"
	"keymill/cmd/keymill/internal/completion"
	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/issuer/api"
	"keymill/issuer/profile"
	"keymill/jwks"
)

func audienceCommand() *cobra.Command {
	cmd := group("audience", "Manage the APIs that accept tokens", `
An audience is an API that accepts the server's tokens. Its name is their "aud" claim. It
decides what its verifiers have to understand: the algorithm, the lifetime and the claims.`)
	cmd.Example = "  keymill audience add orders --ttl 15m --scope read --scope write\n  keymill audience list"
	addServerFlags(cmd)
	cmd.AddCommand(audienceAddCommand(), audienceSetCommand(), audienceShowCommand(), audienceListCommand(), audienceRemoveCommand())
	return cmd
}

func audienceAddCommand() *cobra.Command {
	var a api.Audience
	var claims string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Add an audience",
		Long: `Add an audience: one for each API that should accept tokens of its own. The name is 1 to 200
visible ASCII characters and need not be a URI. EdDSA, the default, is faster and shorter;
RS256 is what every library verifies. ES256, if it is in keys.algorithms, is for software without
EdDSA and costs less than RS256. For a Django API that uses djangorestframework-simplejwt, choose
RS256 and the profile simplejwt. For an API with Spring Security, choose RS256 or ES256 and the
profile spring. Some software accepts only tokens of the type JWT: --type JWT. Then nothing but
the claims tells an access token from an ID token.`,
		Example: `  keymill audience add orders --ttl 15m --scope read --scope write
  keymill audience add https://shop.example/api --alg RS256 --profile simplejwt
  keymill audience add stock --alg RS256 --profile spring`,
		Args: arguments("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			// Probably an unset variable. The algorithm of an audience cannot be changed later.
			if a.Alg == "" {
				return terminal.WithHint(terminal.Usage("--alg is empty"), "leave it out for EdDSA, or give --alg RS256, which every library verifies")
			}
			ttl, err := toAPIDuration("ttl", a.TTL)
			if err != nil {
				return err
			}
			if err := checkType(cmd, a.Type); err != nil {
				return err
			}
			if cmd.Flags().Changed("claims") {
				file, err := claimflag.Read(claims)
				if err != nil {
					return err
				}
				a.Claims, a.ClaimMap = file.Claims, file.Map
			}
			a.Name, a.TTL, a.Scopes = args[0], ttl, nonEmpty(a.Scopes)
			if err := checkScopes(a.Scopes); err != nil {
				return err
			}
			return askAudience(cmd, asJSON, http.MethodPost, "audiences", a)
		},
	}
	f := cmd.Flags()
	f.StringVar(&a.Alg, "alg", "EdDSA", "signing algorithm of the tokens: "+algorithms())
	f.StringVar(&a.TTL, "ttl", "15m", "lifetime of the tokens, 1s to 24h")
	f.StringArrayVar(&a.Scopes, "scope", nil, "a scope that the tokens may have (repeatable)")
	f.StringVar(&a.Profile, "profile", "rfc9068", "what verifies the tokens: rfc9068, simplejwt for Django, or spring for Spring Security")
	f.StringVar(&a.Type, "type", "", "typ of the tokens: at+jwt or JWT (default: JWT with the profile spring, else at+jwt)")
	f.StringVar(&claims, "claims", "", claimsHelp)
	completeTypes(cmd)
	completion.Algorithm(cmd)
	addJSONFlag(cmd, &asJSON)
	return cmd
}

// toAPIDuration turns a duration of the command line into one of the admin API.
func toAPIDuration(flag, text string) (string, error) {
	d, err := config.ParseDuration(text)
	if err != nil {
		return "", terminal.Usage("--%s %v", flag, err)
	}
	return d.String(), nil
}

// nonEmpty drops empty words, so that --scope "" empties a list. It never returns nil, which
// would be null in JSON.
func nonEmpty(words []string) []string {
	kept := []string{}
	for _, w := range words {
		if w != "" {
			kept = append(kept, w)
		}
	}
	return kept
}

const claimsHelp = `a JSON file with {"claims": claims of each token, "map": {name in the tokens: name of the user's claim}}; with a map, users have no other claims in the tokens`

// checkType refuses an empty type: it usually comes from a variable that is not set.
func checkType(cmd *cobra.Command, typ string) error {
	if typ == "" && cmd.Flags().Changed("type") {
		return terminal.WithHint(terminal.Usage("--type is empty"), "give --type %s, or --type %s for software that knows no other type", jwks.TypeAccessToken, jwks.TypeJWT)
	}
	return nil
}

// completeTypes offers the types and the profiles to the flags of a command.
func completeTypes(cmd *cobra.Command) {
	for flag, values := range map[string][]string{"type": {jwks.TypeAccessToken, jwks.TypeJWT}, "profile": profile.Names()} {
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)) // fails only if there is no such flag
	}
}

func askAudience(cmd *cobra.Command, asJSON bool, method, path string, body any) error {
	server, err := dial(cmd)
	if err != nil {
		return err
	}
	a, raw, err := adminapi.Ask[api.Audience](cmd.Context(), server, method, path, body)
	for _, w := range a.Warnings {
		terminal.Warn(cmd.ErrOrStderr(), "%s", w)
	}
	if err != nil || asJSON {
		return commandline.PrintAnswer(cmd, raw, err)
	}
	return printAudiences(cmd.OutOrStdout(), a)
}

func printAudiences(w io.Writer, list ...api.Audience) error {
	t := terminal.NewTable(w, "AUDIENCE", "ALG", "TTL", "PROFILE", "SCOPES")
	for _, a := range list {
		t.Row(a.Name, a.Alg, a.TTL, profileOf(a), terminal.List(a.Scopes))
	}
	return t.Flush()
}

// profileOf returns the profile of an audience, and what else is not as usual in its tokens.
func profileOf(a api.Audience) string {
	words := []string{a.Profile}
	if a.Type != jwks.TypeAccessToken {
		words = append(words, "type "+a.Type)
	}
	if len(a.Claims) > 0 {
		words = append(words, "claims "+strings.Join(slices.Sorted(maps.Keys(a.Claims)), " "))
	}
	if len(a.ClaimMap) > 0 {
		words = append(words, "mapped claims "+strings.Join(slices.Sorted(maps.Keys(a.ClaimMap)), " "))
	}
	if until := a.FormerTypeUntil; until != nil && until.After(time.Now()) {
		words = append(words, "both types until "+terminal.FormatTime(until))
	}
	if a.BuiltIn {
		words = append(words, "built in")
	}
	return strings.Join(words, ", ")
}

func audiencePath(name string) string { return "audience?name=" + url.QueryEscape(name) }

func audienceSetCommand() *cobra.Command {
	var ttl, profile, typ, claims string
	var scopes []string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "set NAME",
		Short: "Change an audience's lifetime, scopes, profile or type",
		Long: `Change only what the flags name. New tokens follow the change at once. The list of scopes is
replaced as a whole: --scope read removes all other scopes, and --scope "" removes all. The
algorithm cannot change: add another audience for another algorithm.

A change of the type is one that services notice, if they check the type: they have to accept
both types until the tokens of the former type have expired. The answer says when that is.

--claims replaces the claims and the map as a whole: what the file leaves out is removed.`,
		Example: "  keymill audience set orders --ttl 5m\n  keymill audience set orders --scope read --scope write --scope refund\n  keymill audience set orders --type JWT",
		Args:    arguments("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			scopes = nonEmpty(scopes)
			if err := checkScopes(scopes); err != nil {
				return err
			}
			if err := checkType(cmd, typ); err != nil {
				return err
			}
			change := api.AudienceChange{
				TTL: ifGiven(cmd, "ttl", &ttl), Scopes: ifGiven(cmd, "scope", &scopes), Profile: ifGiven(cmd, "profile", &profile),
				Type: ifGiven(cmd, "type", &typ),
			}
			if cmd.Flags().Changed("claims") {
				file, err := claimflag.Read(claims)
				if err != nil {
					return err
				}
				change.Claims, change.ClaimMap = &file.Claims, &file.Map
			}
			if change.TTL != nil {
				d, err := toAPIDuration("ttl", ttl)
				if err != nil {
					return err
				}
				change.TTL = &d
			}
			if change == (api.AudienceChange{}) {
				return terminal.WithHint(terminal.Usage("no change was given"), "keymill audience set %s --ttl 5m", terminal.ShellWord(args[0]))
			}
			return askAudience(cmd, asJSON, http.MethodPatch, audiencePath(args[0]), change)
		},
	}
	f := cmd.Flags()
	f.StringVar(&ttl, "ttl", "", "lifetime of the tokens, 1s to 24h")
	f.StringArrayVar(&scopes, "scope", nil, "a scope that the tokens may have (repeatable)")
	f.StringVar(&profile, "profile", "", "what verifies the tokens: rfc9068, simplejwt or spring")
	f.StringVar(&typ, "type", "", "typ of the tokens: at+jwt or JWT")
	f.StringVar(&claims, "claims", "", claimsHelp)
	completeTypes(cmd)
	addJSONFlag(cmd, &asJSON)
	return cmd
}

func audienceShowCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "show NAME",
		Short:   "Show one audience",
		Long:    "Show one audience: its algorithm, the type and the lifetime of its tokens, its\nprofile and its scopes. With --json also until when tokens of a former type are accepted.",
		Example: "  keymill audience show orders --json",
		Args:    arguments("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return askAudience(cmd, asJSON, http.MethodGet, audiencePath(args[0]), nil)
		},
	}
	addJSONFlag(cmd, &asJSON)
	return cmd
}

func audienceListCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List all audiences",
		Long:    "List all audiences, ordered by name.",
		Example: "  keymill audience list\n  keymill audience list --json",
		Args:    arguments(),
		RunE: func(cmd *cobra.Command, args []string) error {
			server, err := dial(cmd)
			if err != nil {
				return err
			}
			list, raw, err := adminapi.AskAll(cmd.Context(), server, "audiences", func(a api.Audience) string { return a.Name })
			if err != nil || asJSON {
				return commandline.PrintAnswer(cmd, raw, err)
			}
			return printAudiences(cmd.OutOrStdout(), list...)
		},
	}
	addJSONFlag(cmd, &asJSON)
	return cmd
}

func audienceRemoveCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "remove NAME",
		Short:   "Remove an audience that no client uses",
		Long:    "Remove an audience. The server refuses as long as a client uses it. Remove it from those\nclients first, with \"keymill client set\".",
		Example: "  keymill audience remove orders",
		Args:    arguments("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			server, err := dial(cmd)
			if err != nil {
				return err
			}
			if _, err = server.Call(cmd.Context(), http.MethodDelete, audiencePath(args[0]), nil); err != nil {
				return err
			}
			return commandline.SayOrJSON(cmd, asJSON, map[string]any{"audience": args[0], "removed": true}, "removed audience %s", args[0])
		},
	}
	addJSONFlag(cmd, &asJSON)
	return cmd
}
