package endpoint

import (
	"testing"

	"keymill/issuer/applied"
)

// TestWhatIsAppliedIsRemembered through the admin API: marking twice changes nothing, and only the kinds of
// entries that apply makes can be marked.
func TestWhatIsAppliedIsRemembered(t *testing.T) {
	var marks applied.Marks
	w := newWorldAt(t, testIssuer, func(c *Config) { c.Applied = &marks })
	marks = applied.Marks{Store: w.store, Now: w.keys.Now}
	const web = "/admin/v1/applied?kind=client&name=web"
	first := w.expect(200, "PUT", web, "")
	if again := w.expect(200, "PUT", web, ""); again.body != first.body {
		t.Errorf("first %s, then %s", first.body, again.body)
	}
	w.expect(200, "PUT", "/admin/v1/applied?kind=audience&name=https%3A%2F%2Fa.example%2F%3Fb%26c", "")
	if list := w.expect(200, "GET", "/admin/v1/applied?after=audience/z", "").body; list != "["+first.body+"]" {
		t.Errorf("listed %s", list)
	}
	for path, want := range map[string]string{
		"?kind=user&name=alice": "invalid_request", "?name=web": "invalid_request", "?kind=client": "invalid_request", "?kind=client&name=%0A": "invalid_request",
		"?kind=client&name=web&name=x": "invalid_request", "?kind=client&name=web&x=1": "invalid_request",
	} {
		for _, method := range []string{"PUT", "DELETE"} {
			if got := w.expect(400, method, "/admin/v1/applied"+path, "").code(t); got != want {
				t.Errorf("%s %s: %s", method, path, got)
			}
		}
	}
	w.expect(204, "DELETE", web, "")
	if got := w.expect(404, "DELETE", web, "").code(t); got != "not_found" {
		t.Error(got)
	}
}

// TestAServerWithoutMarksSaysSo.
func TestAServerWithoutMarksSaysSo(t *testing.T) {
	w := newWorld(t)
	for _, method := range []string{"GET", "PUT", "DELETE"} {
		path := "/admin/v1/applied"
		if method != "GET" {
			path += "?kind=client&name=web"
		}
		if got := w.expect(404, method, path, "").code(t); got != "not_found" {
			t.Errorf("%s: %s", method, got)
		}
	}
}
