package api

import (
	"time"

	"keymill/issuer/refusal"
)

// A Key is a signing key and its schedule. It never holds the private part.
type Key struct {
	KID     string     `json:"kid"`
	Alg     string     `json:"alg"`
	Stage   string     `json:"stage"`   // "reserve", "spare", "active", "retiring" or "gone"
	Publish *time.Time `json:"publish"` // the key joins the key set
	Sign    *time.Time `json:"sign"`    // the key begins to sign
	Stop    *time.Time `json:"stop"`    // the key stops signing
	Drop    *time.Time `json:"drop"`    // the key leaves the key set
	Reach   *Reach     `json:"reach"`   // who was served the key; null if it is not published, and if no verifier is pinned
}

// A PublishedKey is the public half of a key that is in the key set.
type PublishedKey struct {
	KID       string `json:"kid"`
	Alg       string `json:"alg"`
	PublicKey string `json:"public_key"` // SubjectPublicKeyInfo in PEM
	// Certificate is a self-signed certificate in PEM; "" if the private half was never here, or was erased by an
	// earlier version of the program.
	Certificate string `json:"certificate"`
}

// A RotateKeyRequest asks for the next key of a ring.
type RotateKeyRequest struct {
	Alg   string `json:"alg"`             // required
	Force bool   `json:"force"`           // also if verifiers may not know the next key yet
	Flush bool   `json:"flush,omitempty"` // the reserve signs, not the next key, so that verifiers that fetch only for an unknown kid fetch; not with force
}

// A Rotation says what a rotation did.
type Rotation struct {
	Alg          string     `json:"alg"`
	KID          string     `json:"kid"`           // the key that signs, from Sign on
	Previous     string     `json:"previous"`      // the kid that signed before; "" if none did
	Sign         *time.Time `json:"sign"`          // when KID begins to sign: at once, or some seconds later if several servers share the store
	Spare        string     `json:"spare"`         // the kid that is published next; "" while it is being made, and until Sign
	UnknownUntil *time.Time `json:"unknown_until"` // until then caches may not know KID; null if all do
	Note         string     `json:"note"`          // what a flush costs; "" without one
	MissingNodes []string   `json:"missing_nodes"` // ids of servers of the store that have not read the change yet; they sign nothing until they have
}

// A RevokeKeyRequest asks that a key leaves the key set and never signs again.
type RevokeKeyRequest struct {
	KID   string `json:"kid"`             // required
	Flush bool   `json:"flush,omitempty"` // the reserve signs from now on, so that verifiers that fetch only for an unknown kid fetch
}

// A Revocation says what the revocation of a key did.
type Revocation struct {
	KID          string     `json:"kid"`
	Alg          string     `json:"alg"`
	Was          string     `json:"was"`           // the stage of the key before
	Also         []string   `json:"also"`          // other kids of the same key, revoked with it; only stores of earlier builds have such
	CachedUntil  *time.Time `json:"cached_until"`  // until then caches may still hold the key
	Successor    string     `json:"successor"`     // the kid that signs now; "" if that did not change, or while it is being made
	UnknownUntil *time.Time `json:"unknown_until"` // until then caches may not know Successor; null if all do
	Holders      []Holder   `json:"holders"`       // pinned verifiers that may still hold the key
	Observed     int        `json:"observed"`      // how many other addresses may, of those that fetched the key set lately
	Warnings     []string   `json:"warnings,omitempty"`
	Note         string     `json:"note"`          // what a flush costs; "" without one
	MissingNodes []string   `json:"missing_nodes"` // ids of servers of the store that have not read the change yet; they sign nothing until they have
}

// An ImportKeyRequest imports a key of another system.
type ImportKeyRequest struct {
	Key     refusal.Secret `json:"key"`      // PEM (PKCS #8, PKCS #1, SEC 1, SubjectPublicKeyInfo) or a JWK; required
	Alg     string         `json:"alg"`      // "" where the key names it
	KID     string         `json:"kid"`      // "" for the JWK's own, else the RFC 7638 thumbprint
	Until   *time.Time     `json:"until"`    // not null: the key only verifies, until then
	SignNow bool           `json:"sign_now"` // verifiers know the key already, so it signs at once
}
