package api

import (
	"time"

	"keymill/issuer/refusal"
)

// A Client is a program that asks for tokens (RFC 6749, section 2).
type Client struct {
	ID             string         `json:"client_id"`
	Secret         refusal.Secret `json:"client_secret,omitempty"` // only in the answers that make one; it is not shown again
	Public         bool           `json:"public"`                  // the client has no secret
	Disabled       bool           `json:"disabled"`
	Grants         []string       `json:"grants"`
	Audiences      []string       `json:"audiences"`        // it may get tokens for
	Scopes         []string       `json:"scopes"`           // it may request, each of one of its audiences
	Origins        []string       `json:"origins"`          // of pages and apps that may call on its behalf
	Introspect     []string       `json:"introspect"`       // audiences that it may ask /introspect about
	Grace          string         `json:"grace"`            // of its sessions, such as "30s"; "" means as configured
	Idle           string         `json:"idle"`             // as grace
	Absolute       string         `json:"absolute"`         // as grace
	Claims         Claims         `json:"claims,omitempty"` // in the tokens of the client itself: texts, numbers, true, false, null and lists of these
	Created        time.Time      `json:"created"`
	OldSecretUntil *time.Time     `json:"old_secret_until"`         // null unless two secrets are valid
	SecretVersion  string         `json:"secret_version,omitempty"` // differs for each secret; absent if the client is public
	Warnings       []string       `json:"warnings,omitempty"`       // what of a change will probably not work; only in the answer to it
}

// Useless says why the client can do nothing at all, "" if it can do something or was disabled.
func (c *Client) Useless() string {
	switch {
	case c.Disabled || len(c.Introspect) > 0:
		return ""
	case len(c.Grants) == 0:
		return "it is allowed no grant, and introspects no tokens"
	case len(c.Audiences) == 0:
		return "it has no audience to get tokens for"
	}
	return ""
}

// A NewClient is a request to add a client. The fields are those of Client.
type NewClient struct {
	ID         string   `json:"client_id"` // required
	Public     bool     `json:"public"`
	Grants     []string `json:"grants"`
	Audiences  []string `json:"audiences"`
	Scopes     []string `json:"scopes"`
	Origins    []string `json:"origins"`
	Introspect []string `json:"introspect"`
	Grace      string   `json:"grace"`
	Idle       string   `json:"idle"`
	Absolute   string   `json:"absolute"`
	Claims     Claims   `json:"claims"`

	Disabled   bool   `json:"-"` // by a PUT
	SecretHash string `json:"-"` // 32 bytes, of the secret of a PUT; "" for one that the server makes
}

// A ClientChange is a request to change a Client. Fields that are nil stay as they are.
type ClientChange struct {
	Grants     *[]string `json:"grants"`
	Audiences  *[]string `json:"audiences"`
	Scopes     *[]string `json:"scopes"`
	Origins    *[]string `json:"origins"`
	Disabled   *bool     `json:"disabled"` // true ends every session of the client
	Introspect *[]string `json:"introspect"`
	Grace      *string   `json:"grace"`
	Idle       *string   `json:"idle"`
	Absolute   *string   `json:"absolute"`
	Claims     *Claims   `json:"claims"` // replaces all

	SecretHash string `json:"-"` // 32 bytes, of the secret of a PUT, which replaces all others; "" for no change
}

// A RotateSecretRequest asks for a new secret of a client.
type RotateSecretRequest struct {
	OldFor string `json:"old_for"` // how long the previous secret stays valid, such as "24h"; "" ends it at once
}
