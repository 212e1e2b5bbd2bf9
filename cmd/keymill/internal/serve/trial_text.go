package serve

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/cmd/keymill/internal/trialca"
)

// tokenText is printed at every start of a trial server. Every command can be pasted.
const tokenText = `
Get a token, as any client does:

  curl -s {issuer}/token -u dev-service:{secret} -d grant_type=client_credentials -d audience=dev-api

Store a token in a variable, and verify it as a service does:

  TOKEN=$({keymill} token --data {data} --client dev-service --audience dev-api)
  {keymill} verify "$TOKEN" --issuer {issuer} --audience dev-api

Rotate the keys, and verify the old token again (a key signs {propagation} after it was published):

  {keymill} key rotate --data {data} --alg EdDSA
  {keymill} verify "$TOKEN" --issuer {issuer} --audience dev-api
  {keymill} key list --data {data}
`

// trustText is printed if the server speaks TLS.
const trustText = `
Other programs must trust the CA of this server. It can certify localhost and loopback addresses only. The commands below
need the first line, which is for curl, Go, Python and Node in one shell. They then trust no other CA there (Node does):

  CA={ca}; export SSL_CERT_FILE="$CA" CURL_CA_BUNDLE="$CA" REQUESTS_CA_BUNDLE="$CA" NODE_EXTRA_CA_CERTS="$CA"

For all programs of this machine, on Debian:

  sudo install -m 644 {ca} /usr/local/share/ca-certificates/keymill-dev.crt && sudo update-ca-certificates
`

// simpleJWTText and browserText are printed if their login endpoint is on.
const simpleJWTText = `
Log in as the user, as the front end of a Django API does, and refresh:

  curl -s {issuer}{prefix}/token/ -H 'Content-Type: application/json' -d '{"{field}": "{user}", "password": "{password}"}'

  REFRESH=$(curl -s {issuer}{prefix}/token/ -H 'Content-Type: application/json' -d '{"{field}": "{user}", "password": "{password}"}' | sed 's/.*"refresh": *"\([^"]*\)".*/\1/')
  curl -s {issuer}{prefix}/token/refresh/ -H 'Content-Type: application/json' -d "{\"refresh\": \"$REFRESH\"}"
  {keymill} session list --data {data} --user {user}
  echo "$REFRESH" | {keymill} session why --data {data} -
`

const browserText = `
Log in as a web page does, with the refresh token in a cookie that scripts cannot read:

  JAR=$(mktemp)
  curl -s -c "$JAR" {issuer}/session/login -H 'Content-Type: application/json' -d '{"username": "{user}", "password": "{password}"}'
  curl -s -b "$JAR" -c "$JAR" -X POST {issuer}/session/refresh
  curl -s -b "$JAR" -c "$JAR" -X POST {issuer}/session/logout

In a page of {pages}, the same login is:

  fetch("{issuer}/session/login", {
    method: "POST", credentials: "include", headers: {"Content-Type": "application/json"},
    body: JSON.stringify({username: "{user}", password: "{password}"}),
  })

Browsers keep no cookie of {issuer} for pages of another host, as localhost and 127.0.0.1 are.
`

// djangoText, rowText and serviceText are printed last, if RS256 is configured. rowText needs the
// user as well.
const djangoText = `
Verify the tokens in a Django API with djangorestframework-simplejwt (settings.py):

  REST_FRAMEWORK = {
      "DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework_simplejwt.authentication.JWTAuthentication"],
      "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
  }
  SIMPLE_JWT = {
      "ALGORITHM": "RS256",
      "JWK_URL": "{issuer}/.well-known/jwks.json",
      "ISSUER": "{issuer}",
      "AUDIENCE": "dev-django",
      "USER_ID_FIELD": "id",
      "USER_ID_CLAIM": "user_id",
  }
`

const rowText = `
Django finds the user of a token by its id. Add a row for {user}, whose id is {id}:

  python manage.py shell -c "from django.contrib.auth import get_user_model; U = get_user_model(); U.objects.get_or_create(pk={id}, defaults={U.USERNAME_FIELD: '{user}'})"
`

const serviceText = `
A token of a service has no user. Use JWTStatelessUserAuthentication for it, with "sub" as the claim:

  {keymill} token --data {data} --client dev-django-service --audience dev-django
`

// welcomeTime is how long a trial server waits until its text is printed.
const welcomeTime = 5 * time.Second

// welcome prints the text of a trial server before the server serves. If w is full, is not
// read or has no reader, the server serves nevertheless.
func (s *server) welcome(w io.Writer) error {
	var text bytes.Buffer
	if err := printTrial(&text, s.config); err != nil {
		return err
	}
	written := make(chan error, 1)
	go func() {
		_, err := w.Write(text.Bytes())
		written <- err
	}()
	late := time.NewTimer(welcomeTime)
	defer late.Stop()
	reason := "standard output is not read"
	select {
	case err := <-written:
		if err == nil {
			return nil
		}
		reason = terminal.Plain(err)
	case <-late.C:
	}
	s.log.Warn("cannot print the credentials and commands of the trial server", "reason", reason, "file", s.config.Path("dev-credentials"))
	return nil
}

// printTrial prints the clients and the user with their secrets, and commands to paste.
func printTrial(w io.Writer, c *config.Config) error {
	d, err := ReadCredentials(c.Path("dev-credentials"))
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "The trial server is ready at %s. Its data is in %s.\n\n", c.Issuer, c.Data)
	t := terminal.NewTable(w, "CLIENT", "SECRET", "AUDIENCE")
	for _, client := range d.Clients {
		t.Row(client.ID, cmp.Or(client.Secret, "(public)"), client.Audience)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	t = terminal.NewTable(w, "USER", "PASSWORD", "ID")
	for _, user := range d.Users {
		t.Row(user.Name, user.Password, user.ID)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	ca, err := filepath.Abs(c.Path(trialca.CAFile))
	if err != nil {
		return err
	}
	user := d.User(trialUserName)
	_, err = strings.NewReplacer(
		"{issuer}", c.Issuer,
		"{secret}", d.Secret("dev-service"),
		"{prefix}", c.SimpleJWTPrefix,
		"{pages}", strings.Join(trialOrigins(c.Issuer), " or "),
		"{field}", c.SimpleJWTUsername,
		"{user}", user.Name,
		"{id}", user.ID,
		"{password}", user.Password,
		"{ca}", terminal.ShellWord(ca),
		"{data}", terminal.ShellWord(c.Data),
		"{keymill}", terminal.ShellWord(os.Args[0]), // as it was typed
		"{propagation}", c.Propagation.String(),
	).WriteString(w, trialText(c, user))
	return err
}

// trialText leaves out what this server does not have.
func trialText(c *config.Config, user TrialUser) string {
	text := tokenText
	if c.TrialTLS {
		text = trustText + tokenText
	}
	if c.SimpleJWTClient != "" && user.Name != "" {
		text += simpleJWTText
	}
	if c.BrowserClient != "" && user.Name != "" {
		text += browserText
	}
	if !slices.Contains(c.Algorithms, "RS256") {
		return text
	}
	text += djangoText
	if user.Name != "" {
		text += rowText
	}
	text += serviceText
	return text
}
