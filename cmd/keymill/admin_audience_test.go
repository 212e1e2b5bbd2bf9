package main

import (
	"strings"
	"testing"
)

// TestStartAndDoctorNameAnAudienceThatIsNowBuiltIn. An earlier version can have stored it.
func TestStartAndDoctorNameAnAudienceThatIsNowBuiltIn(t *testing.T) {
	t.Parallel()
	p := made(t)
	p.putRecord("audience/keymill-admin", `{"alg":"EdDSA","ttl":900,"scopes":[],"profile":"rfc9068","clients":0}`)
	const want, advice = "audience keymill-admin, which is now the name of the admin API", `run "keymill audience remove keymill-admin"`
	_, errs, code := p.run(p.serveArgs()...)
	if code != 1 || strings.Count(errs, want) != 1 || !strings.Contains(errs, advice) {
		t.Errorf("the start: code %d\n%s", code, errs)
	}
	checks, code := p.diagnosis()
	if found := checks["audiences"]; code != 1 || found.OK || !strings.Contains(found.Detail, want) || !strings.Contains(found.Detail, advice) {
		t.Errorf("doctor: code %d, %+v", code, checks)
	}
	for check, found := range checks {
		if check != "audiences" && !found.OK {
			t.Errorf("doctor finds more: %s: %+v", check, found)
		}
	}
}
