package claim

import (
	"encoding/json"
	"testing"
)

// A claim that was stored before its name was reserved is left out.
func TestTheClaimsOfTheServerAreNotReplaced(t *testing.T) {
	for own, want := range map[string]string{
		`{"role":"admin","sub":"1","SUB":"2"}`: `{"iss":"","sub":"7","aud":"","client_id":"","exp":0,"iat":0,"jti":"","role":"admin"}`,
		`{"sub":"1"}`:                          `{"iss":"","sub":"7","aud":"","client_id":"","exp":0,"iat":0,"jti":""}`,
		``:                                     `{"iss":"","sub":"7","aud":"","client_id":"","exp":0,"iat":0,"jti":""}`,
	} {
		got, _ := (&Token{Subject: "7"}).Payload(Layer{"user", json.RawMessage(own)})
		if string(got) != want {
			t.Errorf("with the claims %s: %s, want %s", own, got, want)
		}
	}
}
