package main

import (
	"fmt"
	"slices"
	"strings"

	"keymill/issuer"
	"keymill/issuer/endpoint"
	"keymill/issuer/refusal"
	"keymill/issuer/webhook"
)

// checkRefresh asks, before anything is opened, for what the issuer would refuse.
func (c *config) checkRefresh() error {
	switch {
	case c.Grace > issuer.MaxGrace:
		return c.wrong("refresh.grace", "%v is not between 0s and %v", c.Grace, issuer.MaxGrace)
	case c.Idle < issuer.MinIdle:
		return c.wrong("refresh.idle", "%v is under %v", c.Idle, issuer.MinIdle)
	case c.Absolute > issuer.MaxAbsolute:
		return c.wrong("refresh.absolute", "%v is over %v", c.Absolute, issuer.MaxAbsolute)
	case c.Absolute < c.Idle:
		return c.wrong(c.blame("refresh.absolute", "refresh.idle"),
			"refresh.absolute is %v and must be at least refresh.idle (%v)", c.Absolute, c.Idle)
	}
	return nil
}

func (c *config) checkDoors() error {
	if c.dev && !slices.Contains(c.Algorithms, "RS256") {
		c.closeTrialDoors()
	}
	if err := endpoint.CheckPrefix(c.DjangoPrefix); err != nil {
		return hint(c.wrong("simplejwt.prefix", "%q %v", c.DjangoPrefix, err), "simplejwt.prefix: /api")
	}
	if c.SessionClient == "" {
		return nil
	}
	if _, err := endpoint.CookieName(c.SessionClient, c.Issuer); err != nil {
		return hint(c.wrong("session.client", "%s", strings.TrimPrefix(err.Error(), "session.client ")),
			"choose a client whose id has only letters, digits, '-', '_' and '.'")
	}
	return nil
}

// closeTrialDoors: without RS256 the trial server has no client that they could belong to.
func (c *config) closeTrialDoors() {
	if c.origin["simplejwt.client"] == "" {
		c.DjangoClient = ""
	}
	if c.origin["session.client"] == "" {
		c.SessionClient = ""
	}
}

const makeHookSecret = "make one: (umask 077; echo whsec_$(head -c 32 /dev/urandom | base64) > webhook.secret)"

func (c *config) checkWebhook() error {
	switch {
	case c.WebhookURL != "" && c.WebhookSecret == "":
		return hint(c.wrong("webhook.url", "webhook.secret_file is missing: nobody could tell our calls from others'"),
			makeHookSecret)
	case c.WebhookURL == "" && c.WebhookSecret != "":
		return c.wrong("webhook.secret_file", "webhook.url is missing")
	case c.WebhookURL == "":
		return nil
	}
	if err := webhook.CheckURL(c.WebhookURL); err != nil {
		return c.wrong("webhook.url", "%v", err)
	}
	return nil
}

// webhookSecret reads the secret; it is "" without a webhook.
func (c *config) webhookSecret() (refusal.Secret, error) {
	if c.WebhookURL == "" {
		return "", nil
	}
	text, err := readSecretFile("webhook secret", c.WebhookSecret, 0o077)
	if err != nil {
		return "", err
	}
	secret := refusal.Secret(strings.TrimRight(string(text), "\r\n"))
	if err := webhook.CheckSecret(secret); err != nil {
		return "", hint(fmt.Errorf("%s: %w", c.WebhookSecret, err), makeHookSecret)
	}
	return secret, nil
}
