package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/terminal"
)

// welcomeAll is printed at every start of a trial server; each command is to be pasted.
const welcomeAll = `
Get a token, as any client does:

  curl -s {issuer}/token -u dev-service:{secret} -d grant_type=client_credentials -d audience=dev-api

Keep one, and verify it as a service would:

  TOKEN=$({keymill} token --data {data} --client dev-service --audience dev-api)
  {keymill} verify "$TOKEN" --issuer {issuer} --audience dev-api

Rotate the keys, and verify the old token again (a key signs {propagation} after it was published):

  {keymill} key rotate --data {data} --alg EdDSA
  {keymill} verify "$TOKEN" --issuer {issuer} --audience dev-api
  {keymill} key list --data {data}
`

// welcomeDjango and welcomeCookie follow where the doors are open.
const welcomeDjango = `
Log a person in, as the front end of a Django API does, and refresh:

  curl -s {issuer}{prefix}/token/ -H 'Content-Type: application/json' -d '{"username": "{user}", "password": "{password}"}'

  REFRESH=$(curl -s {issuer}{prefix}/token/ -H 'Content-Type: application/json' -d '{"username": "{user}", "password": "{password}"}' | sed 's/.*"refresh": *"\([^"]*\)".*/\1/')
  curl -s {issuer}{prefix}/token/refresh/ -H 'Content-Type: application/json' -d "{\"refresh\": \"$REFRESH\"}"
  {keymill} session list --data {data} --user {user}
  echo "$REFRESH" | {keymill} session why --data {data} -
`

const welcomeCookie = `
A page keeps the refresh token in a cookie that its scripts cannot read:

  JAR=$(mktemp)
  curl -s -c "$JAR" {issuer}/session/login -H 'Content-Type: application/json' -d '{"username": "{user}", "password": "{password}"}'
  curl -s -b "$JAR" -c "$JAR" -X POST {issuer}/session/refresh
  curl -s -b "$JAR" -c "$JAR" -X POST {issuer}/session/logout
`

// welcomeService comes last, where there is RS256.
const welcomeService = `
A Django API verifies with djangorestframework-simplejwt; in settings.py:

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
      "USER_ID_CLAIM": "user_id",  # the user whose id it is must be in Django's table
  }

A token of a service has no user. For those: JWTStatelessUserAuthentication, with "sub" for the claim:

  {keymill} token --data {data} --client dev-django-service --audience dev-django
`

// printWelcome prints the clients and the user with their secrets, and the lines to paste.
func printWelcome(w io.Writer, c *config.Config) error {
	d, err := readDevCredentials(c.Path("dev-credentials"))
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "Keymill is ready for trials at %s; its data is in %s.\n\n", c.Issuer, c.Data)
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
	user := d.user(devUserName)
	_, err = strings.NewReplacer(
		"{issuer}", c.Issuer,
		"{secret}", d.secret("dev-service"),
		"{prefix}", c.SimpleJWTPrefix,
		"{user}", user.Name,
		"{password}", user.Password,
		"{data}", terminal.ShellWord(c.Data),
		"{keymill}", terminal.ShellWord(os.Args[0]), // as it was typed here
		"{propagation}", c.Propagation.String(),
	).WriteString(w, welcomeText(c, user))
	return err
}

// welcomeText leaves out what this server does not have.
func welcomeText(c *config.Config, user devUser) string {
	text := welcomeAll
	if c.SimpleJWTClient != "" && user.Name != "" {
		text += welcomeDjango
	}
	if c.BrowserClient != "" && user.Name != "" {
		text += welcomeCookie
	}
	if slices.Contains(c.Algorithms, "RS256") {
		text += welcomeService
	}
	return text
}
