package site

import (
	"slices"
	"strings"
	"testing"
)

// TestSitesAreThoseOfBrowsers: integration_test/browser asks Chromium about such pairs.
func TestSitesAreThoseOfBrowsers(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		same bool
	}{
		{"https://app.example.com", "https://id.example.com", true},
		{"https://example.com", "https://id.example.com", true},
		{"https://app.example.com:8443", "https://id.example.com", true}, // ports do not matter
		{"https://deep.below.app.example.com", "https://id.example.com", true},
		{"https://app.example.com", "https://id.example.org", false},
		{"https://app.example", "https://id.example.com", false},
		{"https://notexample.com", "https://example.com", false},
		{"https://app.example.com.", "https://id.example.com.", true},
		{"https://app.example.com.", "https://id.example.com", false},

		// A site has a scheme.
		{"http://app.example.com", "https://id.example.com", false},
		{"http://id.example.com", "https://id.example.com", false},
		{"http://localhost:5173", "https://localhost:8420", false},

		// Public suffixes of registries and of hosters.
		{"https://app.example.co.uk", "https://id.example.co.uk", true},
		{"https://app.co.uk", "https://id.co.uk", false},
		{"https://alice.github.io", "https://bob.github.io", false},
		{"https://a.alice.github.io", "https://b.alice.github.io", true},
		{"https://app-1.herokuapp.com", "https://app-2.herokuapp.com", false},
		{"https://shop.pages.dev", "https://id.workers.dev", false},
		{"https://a.city.kawasaki.jp", "https://b.city.kawasaki.jp", true}, // an exception of the list
		{"https://a.b.kawasaki.jp", "https://c.d.kawasaki.jp", false},

		// The issuer's host is a public suffix itself.
		{"https://github.io", "https://github.io:8443", true},
		{"https://alice.github.io", "https://github.io", false},
		{"https://co.uk", "https://example.co.uk", false},

		// Addresses have no registrable domain.
		{"http://127.0.0.1:5173", "http://127.0.0.1:8420", true},
		{"http://127.0.0.1:5173", "http://127.0.0.2:8420", false},
		{"http://10.0.0.7", "http://10.1.0.7", false},
		{"http://192.168.1.5:3000", "http://192.168.1.5:8420", true},
		{"http://192.168.1.5", "http://192.168.2.5", false},
		{"http://[::1]:5173", "http://[::1]:8420", true},
		{"http://[2001:db8::1]", "http://[2001:db8::2]", false},
		{"http://127.0.0.1:5173", "http://[::1]:8420", false},

		// Names of one label, and below localhost.
		{"http://localhost:5173", "http://localhost:8420", true},
		{"http://localhost:5173", "http://127.0.0.1:8420", false},
		{"http://app.localhost:5173", "http://id.localhost:8420", false},
		{"http://a.app.localhost", "http://b.app.localhost", true},
		{"http://app.localhost", "http://localhost", false},
		{"http://intranet:3000", "http://intranet", true},
		{"http://intranet", "http://wiki", false},
		{"http://app.corp.internal", "http://id.corp.internal", true},
		{"http://nas.local", "http://id.local", false},

		{"capacitor://localhost", "http://localhost:8420", false},
		{"capacitor://localhost", "https://localhost", false},
		{"tauri://localhost", "http://localhost", false},
		{"chrome-extension://abcdefghijklmnopabcdefghijklmnop", "https://id.example.com", false},
	} {
		if got := Same(tt.a, tt.b); got != tt.same || Same(tt.b, tt.a) != got {
			t.Errorf("%s and %s are the same site: %t, want %t", tt.a, tt.b, got, tt.same)
		}
	}
}

// TestWarningsSayWhatToDo for each origin on another site, and nothing about the others.
func TestWarningsSayWhatToDo(t *testing.T) {
	list := Warnings([]string{"capacitor://localhost", "https://app.example.com", "https://app.example.org"}, "https://id.example.com")
	if len(list) != 2 || !strings.HasPrefix(list[0], "capacitor://localhost is the origin of an app") ||
		!strings.HasPrefix(list[1], "browsers treat https://app.example.org as another site than https://id.example.com") ||
		!strings.Contains(list[1], "from the site https://example.com, ") || strings.Contains(list[0], "serve them") {
		t.Errorf("%q", list)
	}
	for issuer, want := range map[string]string{
		"http://127.0.0.1:8420": "from the site http://127.0.0.1, ", "http://[::1]:8420": "from the site http://[::1], ",
		"https://id.example.co.uk": "from the site https://example.co.uk, ", "https://github.io": "from the site https://github.io, ",
	} {
		if got := NoCookie("http://localhost:5173", issuer); !strings.Contains(got, want) {
			t.Errorf("%s: %s", issuer, got)
		}
		if list := Warnings([]string{issuer}, issuer); list != nil {
			t.Errorf("%s: %q", issuer, list)
		}
	}
	if slices.Contains(Warnings(nil, "https://id.example.com"), "") {
		t.Error("a warning without an origin")
	}
}
