package serve

import (
	"context"
	"fmt"
	"log/slog"
	"slices"

	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/issuer"
	"keymill/issuer/api"
	"keymill/issuer/endpoint"
)

// A loginFault says what is wrong with the client of a login endpoint. It is never an error,
// because the key set and tokens work, and because an operator can add the client only while
// the server runs.
type loginFault struct {
	setting string // that names the client
	client  string
	what    string // the log message
	why     string // "" if nothing is wrong
	command string // that fixes it; "" if none does
}

// Records reads what a login needs. Both functions refuse with not_found.
type Records struct {
	Client   func(id string) (api.Client, error)
	Audience func(name string) (api.Audience, error)
}

// Log messages about login endpoints.
const (
	noLogin    = "users cannot log in at a login endpoint"
	noSecret   = "a login endpoint does not ask for the client's secret"
	loginAgain = "users can log in at a login endpoint again"
)

// LoginWarnings returns a warning for each login endpoint whose client does not fit.
func LoginWarnings(c *config.Config, r Records) []api.Warning {
	var list []api.Warning
	for _, f := range loginFaults(c, r) {
		if f.why != "" {
			list = append(list, api.Warning{Check: "login endpoint", Detail: f.String()})
		}
	}
	return list
}

// String returns the fault in one line, with what to type.
func (f loginFault) String() string {
	text := fmt.Sprintf("%s: %s is %s, and %s", f.what, f.setting, terminal.ShellWord(f.client), f.why)
	if f.command != "" {
		text += "; run: " + f.command
	}
	return text
}

// loginFaults looks at every login endpoint that is on, the healthy ones included.
func loginFaults(c *config.Config, r Records) []loginFault {
	var list []loginFault
	for _, f := range []loginFault{
		{setting: "simplejwt.client", client: c.SimpleJWTClient}, {setting: "session.client", client: c.BrowserClient},
	} {
		if f.client == "" {
			continue
		}
		client, err := r.Client(f.client)
		if err != nil && !refusedAs(err, "not_found") {
			f.what, f.why, f.command = noLogin, "the client cannot be read: "+terminal.Plain(err), "keymill doctor"
		} else if f.examine(client, err == nil); f.why == "" || f.what == noSecret {
			f.examineAlgorithms(c, client, r)
		}
		list = append(list, f)
	}
	return list
}

// examine fills in what is wrong. The command changes nothing else of the client. At the
// simplejwt endpoint a login cannot name its audience, so the client must have exactly one.
func (f *loginFault) examine(client api.Client, exists bool) {
	word := terminal.ShellWord(f.client)
	const another = "keymill client add NAME --public --grant refresh_token --audience AUDIENCE --origin https://app.example"
	f.what = noLogin
	switch {
	case !exists:
		f.why = "the client does not exist"
		f.command = "keymill client add " + word + " --public --grant refresh_token --audience AUDIENCE --origin https://app.example"
	case client.Disabled:
		f.why, f.command = "the client is disabled", "keymill client enable "+word
	case !slices.Contains(client.Grants, "refresh_token"):
		f.why, f.command = "the client is not allowed the refresh_token grant", "keymill client set "+word+grantFlags(client)
	case len(client.Audiences) == 0:
		f.why, f.command = "the client has no audience", "keymill client set "+word+" --audience AUDIENCE"
	case f.setting == "simplejwt.client" && len(client.Audiences) > 1:
		f.why, f.command = "the client has several audiences, and a login at this endpoint cannot name one", another
	case !client.Public:
		f.what = noSecret
		f.why, f.command = "the client is confidential, and users who log in never present its secret", another
	}
}

// examineAlgorithms fills in a fault if no audience of the client has an algorithm that the server
// signs with.
func (f *loginFault) examineAlgorithms(c *config.Config, client api.Client, r Records) {
	why := ""
	for _, name := range client.Audiences {
		a, err := r.Audience(name)
		switch {
		case err != nil:
			why = "its audience cannot be read: " + terminal.Plain(err)
		case slices.Contains(c.Algorithms, a.Alg):
			return
		default:
			why = fmt.Sprintf("its audience %s needs %s, which is not in keys.algorithms", name, a.Alg)
		}
	}
	f.what, f.why, f.command = noLogin, why, ""
}

// grantFlags returns flags for the client's grants and refresh_token. All are named,
// because "client set" replaces the whole list.
func grantFlags(client api.Client) string {
	flags := ""
	for _, grant := range append(slices.Clone(client.Grants), "refresh_token") {
		flags += " --grant " + grant
	}
	return flags
}

// loginAdvice returns the command that makes the client of a login endpoint usable again.
// Package endpoint logs it if a login fails because of the client.
func loginAdvice(u endpoint.UnusableClient) string {
	f := loginFault{setting: "session.client", client: u.ID}
	if u.Endpoint == issuer.LoginSimpleJWT {
		f.setting = "simplejwt.client"
	}
	if f.examine(u.Client, u.Found); f.command == "" {
		return ""
	}
	return "to fix it, run: " + f.command
}

// watchLogins logs one line for each login endpoint that has a fault, at the start and when a
// change made it, and one when the fault has gone. It does nothing while files are applied.
func (s *server) watchLogins(ctx context.Context) {
	if s.applying.Load() {
		return
	}
	// A caller that hung up after its change would look like a fault of the client.
	r := s.records(context.WithoutCancel(ctx))
	s.watch.update(func() []loginFault { return loginFaults(s.config, r) }, func(f loginFault) { s.logLogin(ctx, f) })
}

func (s *server) logLogin(ctx context.Context, f loginFault) {
	attrs := []any{"setting", f.setting, "client", f.client}
	if f.why == "" {
		s.log.InfoContext(ctx, loginAgain, attrs...)
		return
	}
	attrs = append(attrs, slog.String("reason", f.why))
	if f.command != "" {
		attrs = append(attrs, slog.String("type", f.command))
	}
	s.log.WarnContext(ctx, f.what, attrs...)
}

func (s *server) records(ctx context.Context) Records {
	return Records{
		Client:   func(id string) (api.Client, error) { return s.issuer.Client(ctx, id) },
		Audience: func(name string) (api.Audience, error) { return s.issuer.Audience(ctx, name) },
	}
}
