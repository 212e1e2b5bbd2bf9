package issuer

import (
	"slices"
	"strings"
	"testing"

	"keymill/issuer/api"
)

// origins sets the origins of client "web", and adds it first if it does not exist.
func (w *world) origins(i *Issuer, list ...string) (api.Client, error) {
	c, err := i.SetClient(w.t.Context(), "web", api.ClientChange{Origins: &list}, "uid:0")
	if err != nil && strings.Contains(err.Error(), "not_found") {
		return i.AddClient(w.t.Context(), api.NewClient{ID: "web", Public: true, Origins: list}, "uid:0")
	}
	return c, err
}

// insecurely opens a second Issuer over the same store, with insecure: true.
func (w *world) insecurely() *Issuer {
	w.t.Helper()
	return must[*Issuer](w.t)(Open(w.t.Context(), Config{URL: testURL, Insecure: true, Store: w.store, Keys: w.keys}))
}

// TestOneRuleDecidesAboutOrigins: what client add refuses, client set refuses with the same words,
// and requests from it are refused. What they accept may call.
func TestOneRuleDecidesAboutOrigins(t *testing.T) {
	w := newWorld(t)
	insecure := w.insecurely()
	for _, tt := range []struct {
		origin          string
		secure, relaxed bool
	}{
		{"https://app.example.com", true, true},
		{"http://localhost:5173", true, true},
		{"http://tauri.localhost", true, true},
		{"capacitor://localhost", true, true},
		{"ionic://localhost", true, true},
		{"tauri://localhost", true, true},
		{"chrome-extension://abcdefghijklmnopabcdefghijklmnop", true, true},
		{"moz-extension://2b1c7f6e-0d4a-4c1e-9a51-6f0e8d3c2b1a", true, true},
		{"http://192.168.1.5:3000", false, true},
		{"http://[fd00::7]", false, true},
		{"http://nas.local", false, true},
		{"null", false, false},
		{"*", false, false},
		{"capacitor://app", false, false},
		{"file://", false, false},
		{"https://127.1", false, false},
	} {
		for i, ok := range map[*Issuer]bool{w.Issuer: tt.secure, insecure: tt.relaxed} {
			_, adding := w.origins(i, tt.origin)
			if adding != nil {
				must[api.Client](t)(w.origins(i))
			}
			_, setting := w.origins(i, tt.origin)
			known, err1 := i.KnowsOrigin(t.Context(), tt.origin)
			list, err2 := i.Origins(t.Context(), "web")
			if err1 != nil || err2 != nil {
				t.Fatal(err1, err2)
			}
			if (adding == nil) != ok || (setting == nil) != ok || known != ok || slices.Contains(list, tt.origin) != ok {
				t.Errorf("%s: added %v, set %v, known %t, may call %q; want %t", tt.origin, adding, setting, known, list, ok)
			}
			if !ok {
				if a, s := refused(t, adding, "invalid_request"), refused(t, setting, "invalid_request"); a != s || !strings.HasPrefix(a, "origin '"+tt.origin+"' ") {
					t.Errorf("%s: add says %q, set %q", tt.origin, a, s)
				}
			}
			if err := i.RemoveClient(t.Context(), "web", "uid:0"); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestOriginsThatAreNoLongerAllowedHaveNoEffect: the operator sets insecure to false. Pages without
// TLS may no longer call, and the client can still be changed and disabled.
func TestOriginsThatAreNoLongerAllowedHaveNoEffect(t *testing.T) {
	w := newWorld(t)
	const private, app = "http://192.168.1.5:3000", "https://app.example.com"
	must[api.Client](t)(w.origins(w.insecurely(), private, app))
	list := must[[]string](t)(w.Origins(t.Context(), "web"))
	if known := must[bool](t)(w.KnowsOrigin(t.Context(), private)); known || !slices.Equal(list, []string{app}) {
		t.Errorf("may call: %q, known %t", list, known)
	}
	c := must[api.Client](t)(w.Client(t.Context(), "web"))
	if !slices.Contains(c.Origins, private) {
		t.Errorf("the administrator does not see the origin: %q", c.Origins)
	}
	grace := "10s"
	must[api.Client](t)(w.SetClient(t.Context(), "web", api.ClientChange{Grace: &grace}, "uid:0"))
	must[api.Client](t)(w.origins(w.Issuer, private))
	_, err := w.origins(w.Issuer, private, "http://192.168.1.6:3000")
	refused(t, err, "invalid_request")
	must[api.Client](t)(w.origins(w.Issuer, app))
	_, err = w.origins(w.Issuer, app, private)
	refused(t, err, "invalid_request")
	off := true
	must[api.Client](t)(w.SetClient(t.Context(), "web", api.ClientChange{Disabled: &off}, "uid:0"))
	if list := must[[]string](t)(w.Origins(t.Context(), "web")); len(list) != 0 {
		t.Errorf("pages of a disabled client may call: %q", list)
	}
	if list := must[[]string](t)(w.Origins(t.Context(), "absent")); len(list) != 0 {
		t.Errorf("pages of no client may call: %q", list)
	}
}
