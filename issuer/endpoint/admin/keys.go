package admin

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"time"

	"keymill/issuer/api"
	"keymill/issuer/refusal"
	"keymill/keystore"
)

func keyOf(k keystore.KeyInfo) api.Key {
	return api.Key{
		KID: k.KID, Alg: k.Alg, Stage: string(k.Stage),
		Publish: instant(k.Publish), Sign: instant(k.Sign), Stop: instant(k.Stop), Drop: instant(k.Drop),
	}
}

func (a *API) listKeys(r *http.Request) ([]api.Key, error) {
	list, err := a.cfg.Keys.List(r.Context())
	keys := make([]api.Key, len(list))
	for n, k := range list {
		keys[n] = keyOf(k)
		keys[n].Reach = a.reach(k)
	}
	return keys, err
}

// publishedKeys reads no store, so it answers while the store does not.
func (a *API) publishedKeys(*http.Request) ([]api.PublishedKey, error) {
	published := a.cfg.Keys.Published()
	keys := make([]api.PublishedKey, len(published))
	for n, k := range published {
		der, err := x509.MarshalPKIXPublicKey(k.Public)
		if err != nil {
			return nil, fmt.Errorf("key %s: %w", k.KID, err)
		}
		keys[n] = api.PublishedKey{KID: k.KID, Alg: k.Alg, PublicKey: inPEM("PUBLIC KEY", der)}
		if k.Certificate != nil {
			keys[n].Certificate = inPEM("CERTIFICATE", k.Certificate)
		}
	}
	return keys, nil
}

func inPEM(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func (a *API) rotateKey(r *http.Request, req api.RotateKeyRequest) (api.Rotation, error) {
	if req.Alg == "" {
		return api.Rotation{}, missing("alg")
	}
	if req.Force && req.Flush {
		return api.Rotation{}, refusal.New("invalid_request", "force and flush cannot be combined: with force the spare signs, with flush the reserve")
	}
	rotate := keystore.RotateRequest{Alg: req.Alg, Force: req.Force, Flush: req.Flush}
	if a.cfg.Verifiers != nil {
		if err := a.cfg.Verifiers.Refresh(r.Context()); err != nil {
			return api.Rotation{}, err
		}
		rotate.Check = a.cfg.Verifiers.CheckServed
	}
	done, err := a.cfg.Keys.Rotate(r.Context(), rotate, Actor(r))
	return api.Rotation{
		Alg: done.Alg, KID: done.KID, Previous: done.Previous, Sign: instant(done.Sign),
		Spare: done.Spare, UnknownUntil: end(done.UnknownUntil), Note: a.costOf(req.Flush),
		MissingNodes: append([]string{}, done.Missing...),
	}, err
}

func (a *API) revokeKey(r *http.Request, req api.RevokeKeyRequest) (api.Revocation, error) {
	if req.KID == "" {
		return api.Revocation{}, missing("kid")
	}
	done, err := a.cfg.Keys.Revoke(r.Context(), keystore.RevokeRequest{KID: req.KID, Flush: req.Flush}, Actor(r))
	holders, observed := a.holders(append([]string{done.KID}, done.Also...)...)
	var warnings []string
	if fault := a.cfg.Keys.RevokedFault(); fault != nil {
		warnings = append(warnings, fault.Error())
	}
	return api.Revocation{
		KID: done.KID, Alg: done.Alg, Was: string(done.Was), Also: append([]string{}, done.Also...), CachedUntil: end(done.CachedUntil),
		Successor: done.Successor, UnknownUntil: end(done.UnknownUntil), Warnings: warnings,
		Holders: holders, Observed: observed, Note: a.costOf(req.Flush), MissingNodes: append([]string{}, done.Missing...),
	}, err
}

// costOf says what a flush costs.
func (a *API) costOf(flush bool) string {
	if !flush {
		return ""
	}
	return fmt.Sprintf("a verifier that fetches for an unknown kid learns the new key set at the first token that it gets from now on; "+
		"a verifier without traffic learns nothing. A verifier that may not fetch yet (cooldown, interval) refuses new tokens until it may, "+
		"and one behind a shared cache until max-age is over (%v)", a.cfg.Keys.Status().MaxAge)
}

func (a *API) importKey(r *http.Request, req api.ImportKeyRequest) (api.Key, error) {
	if req.Key == "" {
		return api.Key{}, missing("key")
	}
	imported := keystore.ImportRequest{Key: []byte(req.Key), Alg: req.Alg, KID: req.KID, SignNow: req.SignNow}
	if req.Until != nil {
		if imported.Until = *req.Until; imported.Until.IsZero() {
			// Without until the key would sign.
			return api.Key{}, refusal.New("invalid_request", "until %s is in the past", imported.Until.UTC().Format(time.RFC3339))
		}
	}
	defer clear(imported.Key) // best effort: copies of the key stay in memory until the garbage collector frees them
	info, err := a.cfg.Keys.Import(r.Context(), imported, Actor(r))
	return keyOf(info), err
}
