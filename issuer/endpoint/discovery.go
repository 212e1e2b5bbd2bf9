package endpoint

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// metadata is what RFC 8414, section 2, and OpenID Connect Discovery 1.0, section 3,
// call by the same names. It is derived from the tables that answer requests, so that
// it cannot promise what they do not keep, and from nothing in a request.
type metadata struct {
	Issuer        string   `json:"issuer"`
	KeySet        string   `json:"jwks_uri"`
	Token         string   `json:"token_endpoint"`
	Grants        []string `json:"grant_types_supported"`
	ResponseTypes []string `json:"response_types_supported"` // none: there is no authorization endpoint
	AuthMethods   []string `json:"token_endpoint_auth_methods_supported"`

	Revocation           string   `json:"revocation_endpoint"`
	RevocationMethods    []string `json:"revocation_endpoint_auth_methods_supported"`
	Introspection        string   `json:"introspection_endpoint"`
	IntrospectionMethods []string `json:"introspection_endpoint_auth_methods_supported"`

	// OpenID Connect only. There are no ID tokens yet; go-oidc takes from the last
	// one which algorithms a verifier of ours may meet.
	SubjectTypes []string `json:"subject_types_supported,omitempty"`
	IDTokenAlgs  []string `json:"id_token_signing_alg_values_supported,omitempty"`
}

// A document is a public answer that never changes.
type document struct {
	body   []byte
	length []string
	cache  []string
}

// documents returns the discovery documents by path.
func (s *Server) documents() (map[string]*document, error) {
	url := s.cfg.Issuer.URL()
	secrets := s.cfg.Issuer.AuthMethods()
	orNone := append(slices.Clone(secrets), "none") // public clients refresh and revoke, and ask about nothing
	m := metadata{
		Issuer: url, KeySet: url + "/.well-known/jwks.json", Token: url + "/token",
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
	return map[string]*document{
		"/.well-known/oauth-authorization-server": oauth,
		"/.well-known/openid-configuration":       openid,
	}, err
}

func (s *Server) newDocument(m metadata) (*document, error) {
	b, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("write discovery document: %w", err)
	}
	age := strconv.FormatInt(int64(s.cfg.KeySet.maxAge/time.Second), 10)
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
