package serve

import (
	"strings"
	"testing"

	"keymill/issuer/api"
)

// TestALoginClientThatDoesNotFitIsReported also checks that the suggested command takes
// nothing away from the client.
func TestALoginClientThatDoesNotFitIsReported(t *testing.T) {
	valid := api.Client{Public: true, Grants: []string{"refresh_token"}, Audiences: []string{"a"}}
	several, service := valid, valid
	several.Audiences = []string{"a", "b"}
	service.Grants = []string{"client_credentials"}
	for _, tt := range []struct {
		client       api.Client
		oneAudience  bool
		why, command string
	}{
		{valid, true, "", ""},
		{several, false, "", ""},
		{several, true, "several audiences", "keymill client add NAME --public"},
		{service, true, "refresh_token grant", "keymill client set web --grant client_credentials --grant refresh_token"},
	} {
		why, command := loginFault("web", tt.client, true, tt.oneAudience)
		if !strings.Contains(why, tt.why) || !strings.HasPrefix(command, tt.command) || (why == "") != (tt.why == "") {
			t.Errorf("%+v: %q, %q", tt, why, command)
		}
	}
}
