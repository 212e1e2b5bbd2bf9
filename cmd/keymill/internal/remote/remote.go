// Package remote finds the server that --server names, and fetches the access tokens that its admin API needs.
//
//	--client-id, --client-secret-file, --issuer    a token is fetched, and again before it expires
//	--token-file                                   a token from elsewhere, such as a job of CI
//
// Each flag has a variable. A secret or a token is in a file, never an argument.
package remote

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"keymill/cmd/keymill/internal/adminapi"
	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/healthcheck"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/cmd/keymill/internal/tokenrequest"
	"keymill/issuer/adminscope"
	"keymill/jwks"
)

// A Flag is a flag of every command that asks a running server, with its variable.
type Flag struct{ Name, Variable, Help string }

// Flags returns all of them.
func Flags() []Flag {
	return []Flag{
		{"server", "KEYMILL_SERVER", "ask the server at this `URL`, the address of its admin.listen, instead of that of --data"},
		{"client-id", "KEYMILL_CLIENT_ID", "with --server: the client of audience keymill-admin"},
		{"client-secret-file", "KEYMILL_CLIENT_SECRET_FILE", "with --server: a `FILE` with its secret"},
		{"issuer", "KEYMILL_ISSUER", "with --server: the issuer's `URL`, where a token is fetched"},
		{"token-file", "KEYMILL_ADMIN_TOKEN_FILE", "with --server: a `FILE` with an access token, in place of a client; - is standard input"},
	}
}

// A Request says what was typed.
type Request struct {
	Dirs  []string                         // where the data directory can be
	Typed func(flag string) (string, bool) // the value of a flag, and whether it was given
	In    io.Reader                        // standard input
}

// Dial returns the server that the flags or the variables name. Flags go before variables.
func Dial(ctx context.Context, req Request) (*adminapi.Client, error) {
	_, data := req.Typed("data")
	server, given := req.Typed("server")
	variable := os.Getenv("KEYMILL_SERVER")
	switch {
	case given && server == "":
		return nil, terminal.Usage("--server is empty; is a variable not set?")
	case given && data:
		return nil, terminal.Usage("--server and --data cannot be combined: one names a server on the network, the other one of this machine")
	case !given && (data || variable == ""):
		if name := req.needsServer(); name != "" {
			return nil, terminal.Usage("--%s needs --server", name)
		}
		return adminapi.Dial(ctx, req.Dirs)
	case !given && os.Getenv("KEYMILL_DATA") != "":
		return nil, terminal.WithHint(terminal.Usage("KEYMILL_SERVER and KEYMILL_DATA are both set"), "choose with --server URL or --data DIR")
	}
	at, err := checkURL(cmp.Or(server, variable))
	if err != nil {
		return nil, err
	}
	t, err := req.tokens()
	if err != nil {
		return nil, err
	}
	t.plain = strings.HasPrefix(at, "http://")
	return adminapi.NewRemote(adminapi.Remote{URL: at, Flags: req.given(), Token: t.token, Advise: t.advise}), nil
}

// needsServer returns a flag that was given and means nothing without a server.
func (req *Request) needsServer() string {
	for _, f := range Flags()[1:] {
		if _, given := req.Typed(f.Name); given {
			return f.Name
		}
	}
	return ""
}

// value returns the value of a flag, or else of its variable.
func (req *Request) value(name string) string {
	if text, given := req.Typed(name); given {
		return text
	}
	for _, f := range Flags() {
		if f.Name == name {
			return os.Getenv(f.Variable)
		}
	}
	return ""
}

// given returns the flags that were typed beside --server, each with its value.
func (req *Request) given() (flags []string) {
	for _, f := range Flags()[1:] {
		if text, given := req.Typed(f.Name); given {
			flags = append(flags, "--"+f.Name, text)
		}
	}
	return flags
}

// checkURL returns the URL of a listener. The token must not cross a network unencrypted.
func checkURL(text string) (string, error) {
	text = strings.TrimSuffix(text, "/")
	u, err := url.Parse(text)
	if err == nil && u.User != nil {
		return "", terminal.Usage("--server %q must not have a user or a password", terminal.WithoutUser(text))
	}
	if err != nil || u.Host == "" || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.Scheme != "https" && u.Scheme != "http" {
		return "", terminal.WithHint(terminal.Usage("--server %q is not a URL such as https://id.example.com:8422", text), "it is the scheme, the host and the port of admin.listen")
	}
	if u.Scheme == "http" && !jwks.IsLoopback(u.Hostname()) {
		return "", fmt.Errorf("--server %q is neither https nor loopback: the token would cross the network unencrypted", text)
	}
	return text, nil
}

// tokens returns where the tokens come from.
func (req *Request) tokens() (*tokens, error) {
	t := &tokens{}
	t.request.Client, t.request.Issuer, t.request.Audience = req.value("client-id"), req.value("issuer"), adminscope.Audience
	file := req.value("token-file")
	_, byClient := req.Typed("client-id")
	switch _, byFile := req.Typed("token-file"); {
	case byFile && byClient:
		return nil, terminal.Usage("--token-file and --client-id cannot be combined")
	case file != "" && !byClient:
		return t, t.read(file, req.In)
	case t.request.Client == "":
		return nil, terminal.WithHint(terminal.Usage("--server needs --client-id or --token-file"),
			"on the server's machine: keymill client add ID --grant client_credentials --audience %s --scope …", adminscope.Audience)
	case t.request.Issuer == "":
		return nil, terminal.WithHint(terminal.Usage("--issuer is missing"), "it is the issuer's URL, where client %s gets its token: --issuer https://id.example.com", terminal.Printable(t.request.Client))
	}
	secret, err := config.ClientSecret(req.value("client-secret-file"), nil)
	if err == nil && secret == "" {
		err = terminal.WithHint(fmt.Errorf("no secret was given for client %s", t.request.Client), "name its file with --client-secret-file, or set KEYMILL_CLIENT_SECRET")
	}
	t.request.Secret = string(secret)
	return t, err
}

// early is how long before its end a token is replaced: a request takes time, and clocks differ.
const early = 30 * time.Second

// tokens keeps the token in memory.
type tokens struct {
	request tokenrequest.Request
	plain   bool // the server is asked over plain http
	fixed   bool // the token is from a file, and no other can be fetched

	mu      sync.Mutex // guards what follows
	current string
	ends    time.Time
}

// read takes the token from a file, or from standard input.
func (t *tokens) read(file string, in io.Reader) error {
	if file != "-" {
		in = nil
	}
	t.fixed = true
	secret, err := config.AdminToken(file, in)
	if err != nil {
		return err
	}
	if t.current = string(secret); strings.ContainsFunc(t.current, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return errors.New("--token-file holds more than an access token: there is a space, a line break or another character that no token has")
	}
	return nil
}

// token returns the token, and fetches one if there is none or it ends soon.
func (t *tokens) token(ctx context.Context) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.current != "" && (t.fixed || time.Now().Before(t.ends)) {
		return t.current, nil
	}
	asked := time.Now()
	raw, err := t.request.Fetch(ctx)
	if err != nil {
		return "", fmt.Errorf("cannot fetch a token: %w", err)
	}
	var answer struct {
		AccessToken string `json:"access_token"`
		ExpiresIn   int64  `json:"expires_in"`
	}
	if json.Unmarshal(raw, &answer) != nil || answer.AccessToken == "" {
		return "", errors.New("the answer of the token endpoint has no access_token")
	}
	t.current, t.ends = answer.AccessToken, asked.Add(time.Duration(answer.ExpiresIn)*time.Second-early)
	return t.current, nil
}

// forget lets the next request fetch a token. The server ends tokens early, for example with the sessions of their client.
func (t *tokens) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.current = ""
}

// advise is the Advise of an adminapi.Remote.
func (t *tokens) advise(err error) error {
	refused := (*adminapi.Error)(nil)
	if !errors.As(err, &refused) {
		return terminal.WithHint(err, "%s", healthcheck.TLSHint(err, "is the server running, and is --server the address of its admin.listen?"+t.orTLS()))
	}
	client := "ID"
	if t.request.Client != "" {
		client = terminal.ShellWord(t.request.Client)
	}
	switch {
	case refused.Scope != "":
		return terminal.WithHint(err, "on the server's machine: \"keymill client show %s\" lists its scopes, and \"keymill client set %s\" with all of them and --scope %s grants it", client, client, refused.Scope)
	case refused.Code == "invalid_token" && t.fixed:
		return terminal.WithHint(err, "the token of --token-file may have expired: it is valid for %s; fetch another", adminscope.Lifetime)
	case refused.Code == "invalid_token":
		t.forget()
		return terminal.WithHint(err, "the server's log says why; it is the server of another issuer, or client %s was changed in the meantime", client)
	case refused.Code == "wrong_host":
		return terminal.WithHint(err, "give --server with a name of the server's certificate, or loopback, and the port of admin.listen")
	case refused.Code == "":
		return terminal.WithHint(err, "is --server the address of admin.listen? The public address has no admin API%s", t.orTLS())
	}
	return err
}

// orTLS adds to a hint what a server that speaks TLS does not say: it may close the connection without an answer.
func (t *tokens) orTLS() string {
	if t.plain {
		return " If it speaks TLS, begin --server with https://"
	}
	return ""
}
