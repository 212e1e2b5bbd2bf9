package keyexport

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"keymill/cmd/keymill/internal/adminapi"
	"keymill/cmd/keymill/internal/healthcheck"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/issuer/api"
	"keymill/jwks"
)

// A Source says which keys are published.
type Source struct {
	// Next returns the published keys. The first call returns them at once, a later one when it is time to look
	// again, or when ctx ends.
	Next  func(context.Context) (Published, error)
	Close func()
}

// Published is a set that was fetched.
type Published struct {
	Set          *jwks.Set
	Certificates map[string]string // kid → certificate in PEM, of the keys that have one
}

// warnings says which keys were left out.
func (p Published) warnings() (lines []string) {
	skipped := p.Set.Skipped()
	for _, k := range skipped.Keys {
		lines = append(lines, "left out: "+k.String())
	}
	if more := skipped.Count - len(skipped.Keys); more > 0 {
		lines = append(lines, fmt.Sprintf("left out: %s more", terminal.Count(more, "key")))
	}
	return lines
}

// first says why the first key was left out, if one was.
func (p Published) first() string {
	if skipped := p.Set.Skipped(); len(skipped.Keys) > 0 {
		return "; left out: " + skipped.Keys[0].String()
	}
	return ""
}

// serverPause is how long a Watch waits before it asks a running server again. It is short, since an answer costs
// the server little: max-age is for caches between many verifiers.
const serverPause = 5 * time.Second

// A serverSource asks the admin API.
type serverSource struct {
	server *adminapi.Client
	asked  bool
	last   *jwks.Set // nil before the first
}

// FromServer returns the keys that a running server publishes.
func FromServer(server *adminapi.Client) Source {
	return Source{Next: (&serverSource{server: server}).next, Close: func() {}}
}

func (s *serverSource) next(ctx context.Context) (Published, error) {
	if s.asked {
		select {
		case <-ctx.Done():
			return Published{}, ctx.Err()
		case <-time.After(serverPause):
		}
	}
	s.asked = true
	list, _, err := adminapi.Ask[[]api.PublishedKey](ctx, s.server, http.MethodGet, "keys/published", nil)
	if err != nil {
		return Published{}, err
	}
	p := Published{Certificates: map[string]string{}}
	var keys []jwks.Key
	for _, k := range list {
		public, certificate, err := readKey(k)
		if err != nil {
			return Published{}, fmt.Errorf("the server's answer for key %s: %w", k.KID, err)
		}
		keys = append(keys, jwks.Key{KID: k.KID, Alg: k.Alg, Public: public})
		if certificate != "" {
			p.Certificates[k.KID] = certificate
		}
	}
	set, err := s.last.Replace(keys...)
	if err != nil {
		return Published{}, err
	}
	s.last, p.Set = set, set
	return p, nil
}

// readKey returns the public half of a key, and its certificate in PEM: "" if it has none.
func readKey(k api.PublishedKey) (public crypto.PublicKey, certificate string, err error) {
	block, _ := pem.Decode([]byte(k.PublicKey))
	if block == nil {
		return nil, "", errors.New("it has no public key in PEM")
	}
	public, err = x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil || k.Certificate == "" {
		return public, "", err
	}
	signed, _ := pem.Decode([]byte(k.Certificate))
	if signed == nil {
		return nil, "", errors.New("its certificate is not in PEM")
	}
	c, err := x509.ParseCertificate(signed.Bytes)
	if err == nil && !bytes.Equal(c.RawSubjectPublicKeyInfo, block.Bytes) {
		err = errors.New("its certificate is of another key")
	}
	return public, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed.Bytes})), err
}

// An issuerSource fetches the set as a verifier does.
type issuerSource struct {
	issuer  string
	remote  *jwks.Remote
	fetched chan error // the result of the last fetch that next has not returned yet
}

// FromIssuer returns the keys that any issuer publishes: its discovery document names the set. A Watch fetches
// it again before its max-age is over.
func FromIssuer(issuer string) (Source, error) {
	if issuer == "" {
		return Source{}, terminal.Usage("--issuer is empty; is a variable not set?")
	}
	s := &issuerSource{issuer: issuer, fetched: make(chan error, 1)}
	remote, err := jwks.NewRemote(jwks.RemoteConfig{Issuer: issuer, Fetched: s.note, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return Source{}, terminal.WithHint(terminal.Usage("--%s", strings.TrimPrefix(err.Error(), jwks.ErrConfig.Error()+": ")), "write it as https://host or https://host/path, exactly as in the claim iss")
	}
	s.remote = remote
	return Source{Next: s.next, Close: remote.Close}, nil
}

// note replaces the result that next has not returned yet. Only the loop of the Remote calls it.
func (s *issuerSource) note(err error) {
	select {
	case <-s.fetched:
	default:
	}
	s.fetched <- err
}

func (s *issuerSource) next(ctx context.Context) (Published, error) {
	var err error
	select {
	case <-ctx.Done():
		return Published{}, ctx.Err()
	case err = <-s.fetched:
	}
	var set *jwks.Set
	if err == nil {
		set, err = s.remote.Set(ctx)
	}
	if err != nil {
		err = fmt.Errorf("the keys of %s cannot be fetched: %w", terminal.WithoutUser(s.issuer), err)
		return Published{}, terminal.WithHint(err, "%s", healthcheck.TLSHint(err, "is it the issuer exactly as in the claim iss, and does it answer from here?"))
	}
	return Published{Set: set}, nil
}
