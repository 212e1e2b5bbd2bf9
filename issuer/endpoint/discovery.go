package endpoint

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"keymill/issuer/endpoint/keyset"
)

// metadata has the members that RFC 8414, section 2, and OpenID Connect Discovery 1.0,
// section 3, share. It is derived from the tables that answer requests, so that both always
// agree, and not from any request.
type metadata struct {
	Issuer        string   `json:"issuer"`
	KeySet        string   `json:"jwks_uri"`
	Token         string   `json:"token_endpoint"`
	Grants        []string `json:"grant_types_supported"`
	ResponseTypes []string `json:"response_types_supported"` // empty: there is no authorization endpoint
	AuthMethods   []string `json:"token_endpoint_auth_methods_supported"`

	Revocation           string   `json:"revocation_endpoint"`
	RevocationMethods    []string `json:"revocation_endpoint_auth_methods_supported"`
	Introspection        string   `json:"introspection_endpoint"`
	IntrospectionMethods []string `json:"introspection_endpoint_auth_methods_supported"`

	// OpenID Connect only. Keymill issues no ID tokens; go-oidc reads from the last member
	// which algorithms access tokens may have.
	SubjectTypes []string `json:"subject_types_supported,omitempty"`
	IDTokenAlgs  []string `json:"id_token_signing_alg_values_supported,omitempty"`
}

// Paths of the discovery documents of an issuer without a path.
const (
	oauthDocument  = "/.well-known/oauth-authorization-server" // RFC 8414, section 3
	openIDDocument = "/.well-known/openid-configuration"       // OpenID Connect Discovery 1.0, section 4
)

// A document is a public answer that does not change while the server runs.
type document struct {
	body   []byte
	length []string
	cache  []string
}

// documents returns the discovery documents by path.
func (s *Server) documents() (map[string]*document, error) {
	url := s.cfg.Issuer.URL()
	secrets := s.cfg.Issuer.AuthMethods()
	orNone := append(slices.Clone(secrets), "none") // public clients may refresh and revoke, but not introspect
	m := metadata{
		Issuer: url, KeySet: url + keyset.Path, Token: url + "/token",
		Grants: s.cfg.Issuer.Grants(), ResponseTypes: []string{}, AuthMethods: orNone,
		Revocation: url + "/revoke", RevocationMethods: orNone,
		Introspection: url + "/introspect", IntrospectionMethods: secrets,
	}
	oauth, err := s.newDocument(m)
	if err != nil {
		return nil, err
	}
	m.SubjectTypes, m.IDTokenAlgs = []string{"public"}, s.cfg.Issuer.Algorithms()
	openid, err := s.newDocument(m)
	return map[string]*document{oauthDocument: oauth, openIDDocument: openid}, err
}

func (s *Server) newDocument(m metadata) (*document, error) {
	b, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("marshal discovery document: %w", err)
	}
	age := strconv.FormatInt(int64(s.cfg.KeySet.MaxAge()/time.Second), 10)
	return &document{b, []string{strconv.Itoa(len(b))}, []string{"public, max-age=" + age}}, nil
}

func (d *document) serve(w http.ResponseWriter, _ *http.Request) error {
	header := w.Header()
	header["Access-Control-Allow-Origin"] = anyOrigin
	header["Cache-Control"] = d.cache
	header["Content-Length"] = d.length
	header["Content-Type"] = jsonType
	w.Write(d.body)
	return nil
}
