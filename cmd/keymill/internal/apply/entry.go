package apply

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/issuer/api"
	"keymill/issuer/profile"
)

// The kinds of entries, in the order in which they are applied: a client names audiences.
const (
	audienceKind = "audience"
	clientKind   = "client"
	verifierKind = "verifier"
	userKind     = "user"
)

var kinds = []string{audienceKind, clientKind, verifierKind, userKind}

// An entry is what the files say about one audience, client, verifier or user.
type entry struct {
	kind, name string
	at         Place

	audience api.Audience
	client   api.ClientState
	secret   *[sha256.Size]byte // SHA-256 of the secret of the client; nil if the file names none
	claims   api.Claims         // of a user
}

// label is how messages call the entry.
func (e *entry) label() string { return labelOf(e.kind, e.name) }

func labelOf(kind, name string) string { return kind + " " + cut(name) }

// readEntries reads the entries of one document.
func readEntries(file string, body ast.Node) ([]*entry, error) {
	groups, err := pairs(file, body, "a file of entries")
	if err != nil {
		return nil, err
	}
	var all []*entry
	for _, g := range groups {
		kind := strings.TrimSuffix(g.key, "s")
		if !slices.Contains(kinds, kind) || kind == g.key {
			return nil, unknown(g, []string{"audiences", "clients", "verifiers", "users"})
		}
		nodes, err := items(g)
		if err != nil {
			return nil, err
		}
		for _, n := range nodes {
			e, err := readEntry(kind, file, n)
			if err != nil {
				return nil, err
			}
			all = append(all, e)
		}
	}
	return all, nil
}

// maxKeyBytes is longer than every key, and shorter than a secret.
const maxKeyBytes = 30

// unknown refuses a key, and says which was meant or which there are.
func unknown(p pair, known []string) error {
	if len(p.key) > maxKeyBytes { // perhaps a secret, or a file of something else
		return p.at.wrong("unknown key of %d bytes; known keys: %s", len(p.key), strings.Join(known, ", "))
	}
	if near := terminal.Nearest(p.key, known); near != "" {
		return p.at.wrong("unknown key %q; did you mean %q?", cut(p.key), near)
	}
	return p.at.wrong("unknown key %q; known keys: %s", cut(p.key), strings.Join(known, ", "))
}

// readEntry reads one entry of a list.
func readEntry(kind, file string, n ast.Node) (*entry, error) {
	e := &entry{kind: kind, at: placeOf(file, n)}
	list, err := pairs(file, n, "each "+kind)
	if err != nil {
		return nil, err
	}
	members := e.members()
	for _, p := range list {
		read := members[p.key]
		if read == nil {
			return nil, unknown(p, slices.Sorted(maps.Keys(members)))
		}
		if err := read(p); err != nil {
			return nil, err
		}
	}
	if len(list) > 0 {
		e.at = list[0].at
	}
	return e, e.complete()
}

// members maps the keys of an entry to what reads them.
func (e *entry) members() map[string]func(pair) error {
	switch e.kind {
	case audienceKind:
		a := &e.audience
		return map[string]func(pair) error{
			"name": into(&e.name), "alg": into(&a.Alg), "ttl": duration(&a.TTL), "scopes": list(&a.Scopes), "profile": into(&a.Profile),
			"type": into(&a.Type), "claims": claimsInto(&a.Claims), "claim_map": mapInto(&a.ClaimMap),
		}
	case clientKind:
		c := &e.client
		return map[string]func(pair) error{
			"id": into(&e.name), "public": func(p pair) (err error) { c.Public, err = p.boolean(); return err },
			"grants": list(&c.Grants), "audiences": list(&c.Audiences), "scopes": list(&c.Scopes), "origins": list(&c.Origins),
			"introspect": list(&c.Introspect), "grace": duration(&c.Grace), "idle": duration(&c.Idle), "absolute": duration(&c.Absolute),
			"claims": claimsInto(&c.Claims), "secret_sha256": e.readHash, "secret_file": e.readSecretFile,
		}
	case verifierKind:
		return map[string]func(pair) error{"name": into(&e.name)}
	}
	return map[string]func(pair) error{"user": into(&e.name), "claims": claimsInto(&e.claims)}
}

func into(to *string) func(pair) error {
	return func(p pair) (err error) { *to, err = p.text(); return err }
}

func list(to *[]string) func(pair) error {
	return func(p pair) (err error) { *to, err = p.texts(); return err }
}

// duration reads a duration of the command line, such as 7d, as the admin API writes it. "" means the
// default.
func duration(to *string) func(pair) error {
	return func(p pair) error {
		text, err := p.text()
		if err != nil || text == "" {
			return err
		}
		d, err := config.ParseDuration(text)
		if err != nil {
			return p.at.wrong("%s: %s", p.key, cut(err.Error()))
		}
		*to = d.String()
		return nil
	}
}

// complete checks what is required, and fills in the defaults.
func (e *entry) complete() error {
	key := map[string]string{clientKind: "id", userKind: "user"}[e.kind]
	if key == "" {
		key = "name"
	}
	if e.name == "" {
		return e.at.wrong("this %s has no %s", e.kind, key)
	}
	switch e.kind {
	case audienceKind:
		a := &e.audience
		a.Name, a.Scopes = e.name, distinct(append([]string{}, a.Scopes...))
		a.Alg, a.TTL, a.Profile = or(a.Alg, "EdDSA"), or(a.TTL, "15m0s"), or(a.Profile, profile.RFC9068)
		if p, known := profile.Find(a.Profile); known { // the server refuses any other
			a.Type = or(a.Type, p.Types[0])
		}
	case clientKind:
		c := &e.client
		for _, l := range []*[]string{&c.Grants, &c.Audiences, &c.Scopes, &c.Origins, &c.Introspect} {
			*l = append([]string{}, *l...)
		}
		if c.Public && e.secret != nil {
			return e.at.wrong("%s is public and has no secret; remove public or the secret", e.label())
		}
	case userKind:
		if e.claims == nil {
			return e.at.wrong("%s has no claims; write claims: {} for none", e.label())
		}
	}
	return nil
}

func or(text, fallback string) string {
	if text == "" {
		return fallback
	}
	return text
}

// makeSecret says how to make a secret and its hash.
const makeSecret = `make a secret with "openssl rand -hex 32 > web.secret" and name the file in secret_file, or write ` +
	`the output of "tr -d '\n' < web.secret | sha256sum" into secret_sha256`

func (e *entry) readHash(p pair) error {
	text, err := p.text()
	if err != nil {
		return err
	}
	hash, err := hex.DecodeString(text)
	if err != nil || len(hash) != sha256.Size {
		return terminal.WithHint(p.at.wrong("secret_sha256 must be 64 hex digits, the SHA-256 of the secret"), makeSecret)
	}
	if [sha256.Size]byte(hash) == sha256.Sum256(nil) {
		return terminal.WithHint(p.at.wrong("secret_sha256 is the SHA-256 of nothing: the command that made it read an empty file"), makeSecret)
	}
	return e.setSecret(p, [sha256.Size]byte(hash))
}

// Bounds of a secret in a file, and of the name of the file. 32 random bytes have 43 characters in base64, and 64 in hex.
const (
	minSecretBytes = 43
	maxSecretBytes = 1024
	maxPathBytes   = 400
)

// readSecretFile reads a secret, and keeps its hash only. A relative name is one beside the file that has it.
func (e *entry) readSecretFile(p pair) error {
	name, err := p.text()
	if err != nil {
		return err
	}
	if name == "" || len(name) > maxPathBytes {
		return p.at.wrong("secret_file must name a file, in at most %d bytes", maxPathBytes)
	}
	path := name
	if !filepath.IsAbs(path) && p.at.File != stdinName {
		path = filepath.Join(filepath.Dir(p.at.File), path)
	}
	read, err := config.SecretFile("secret_file", path)
	if err != nil {
		place := fmt.Errorf("%s: %w", p.at, err)
		if hint := terminal.HintOf(err); hint != "" {
			return terminal.WithHint(place, "%s", hint)
		}
		return place
	}
	secret := string(read)
	outside := func(c rune) bool { return c <= ' ' || c > '~' }
	if len(secret) < minSecretBytes || len(secret) > maxSecretBytes || strings.ContainsFunc(secret, outside) {
		return terminal.WithHint(p.at.wrong("the secret in %s must be one line of %d to %d visible ASCII characters, from 32 random bytes", path, minSecretBytes, maxSecretBytes), makeSecret)
	}
	return e.setSecret(p, sha256.Sum256([]byte(secret)))
}

func (e *entry) setSecret(p pair, hash [sha256.Size]byte) error {
	if e.secret != nil {
		return p.at.wrong("secret_sha256 and secret_file cannot be combined; give one of them")
	}
	e.secret, e.client.SecretSHA256 = &hash, hex.EncodeToString(hash[:])
	return nil
}

func claimsInto(to *api.Claims) func(pair) error {
	return func(p pair) error {
		members, err := pairs(p.at.File, p.value, p.key)
		if err != nil {
			return err
		}
		*to = api.Claims{}
		for _, m := range members {
			if (*to)[m.key], err = toJSON(p.at.File, m.value, 1); err != nil {
				return err
			}
		}
		return nil
	}
}

func mapInto(to *api.ClaimMap) func(pair) error {
	return func(p pair) error {
		members, err := pairs(p.at.File, p.value, p.key)
		if err != nil {
			return err
		}
		*to = api.ClaimMap{}
		for _, m := range members {
			if (*to)[m.key], err = m.text(); err != nil {
				return err
			}
		}
		return nil
	}
}
