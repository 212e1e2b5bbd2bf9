package origin

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

const extension = "abcdefghijklmnopabcdefghijklmnop"

// TestOriginsAreWrittenAsBrowsersSendThem: an origin in another form would never match, and the
// error says how to write it.
func TestOriginsAreWrittenAsBrowsersSendThem(t *testing.T) {
	const form = "must be scheme, host and port as a browser sends them, such as "
	for _, tt := range []struct{ origin, want string }{
		{"https://app.example.com", ""},
		{"https://app.example.com:8443", ""},
		{"https://my_app.example.com", ""},
		{"https://app.example.com.", ""},
		{"https://localhost", ""}, // Capacitor on Android
		{"https://192.0.2.7", ""},
		{"https://[2001:db8::1]:8443", ""},
		{"https://xn--mnchen-3ya.example", ""},
		{"https://1.example", ""},

		{"https://app.example.com/", form + "https://app.example.com"},
		{"https://app.example.com/login?x=1#y", form + "https://app.example.com"},
		{"https://App.example.com", form + "https://app.example.com"},
		{"HTTPS://app.example.com", form + "https://app.example.com"},
		{"https://app.example.com:443", form + "https://app.example.com"},
		{"http://localhost:80", form + "http://localhost"},
		{"https://me:pw@shop.example.com", form + "https://shop.example.com"},
		{"https://app.example.com:080", form + "https://app.example.com"},
		{"https://app.example.com:", form + "https://app.example.com"},
		{"https://app.example.com:0", form},
		{"https://app.example.com:99999", form},
		{"app.example.com", form + "https://app.example.com"},
		{"localhost:3000", form},
		{"", form},
		{"https://", form},
		{"https:app.example.com", form},
		{"https://a,b", form},
		{"https://a b", form},
		{"https://münchen.example", form},
		{"https://app.example.com\n", form},

		// To a browser these are 127.0.0.1, 10.0.0.1, 127.0.0.1, 192.0.2.7, [::1] and [2001:db8::1].
		{"http://127.1:3000", form},
		{"https://10.0.1", form},
		{"https://0x7f.1", form},
		{"https://192.0.2.07", form},
		{"https://[0:0:0:0:0:0:0:1]", form},
		{"https://[2001:DB8::1]", form + "https://[2001:db8::1]"},
		{"https://127.0.0.1.", form},

		{"*", "has a wildcard: list each origin"},
		{"https://*.example.com", "has a wildcard: list each origin"},
		{"https://" + strings.Repeat("a", 192), ""},
		{"https://" + strings.Repeat("a", 193), "is longer than 200 bytes"},
	} {
		err := Check(tt.origin, false)
		if (err == nil) != (tt.want == "") || err != nil && !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%q: %v, want %q", tt.origin, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), "pw") {
			t.Errorf("%q: the error shows a password: %v", tt.origin, err)
		}
	}
}

// TestPagesWithoutTLSNeedInsecureUnlessTheyAreOnThisMachine. null is refused in any case: every
// author can make a page that sends it.
func TestPagesWithoutTLSNeedInsecureUnlessTheyAreOnThisMachine(t *testing.T) {
	const always, insecure, never = 0, 1, 2
	for origin, want := range map[string]int{
		"http://localhost:5173":        always,
		"http://127.0.0.1:3000":        always,
		"http://127.8.9.10":            always,
		"http://[::1]:3000":            always,
		"http://tauri.localhost":       always, // Tauri on Windows and Android
		"http://app.localhost:8080":    always,
		"https://192.168.1.5":          always,
		"http://192.168.1.5:3000":      insecure,
		"http://10.0.0.7":              insecure,
		"http://172.16.4.4:8080":       insecure,
		"http://100.64.0.9":            insecure,
		"http://[fd00::7]:3000":        insecure,
		"http://169.254.7.7":           insecure,
		"http://nas.local":             insecure,
		"http://build.internal:8080":   insecure,
		"http://app.example.com":       insecure,
		"http://localhost.example.com": insecure,
		"http://notlocalhost":          insecure,
		"null":                         never,
		"NULL":                         never,
		"Null":                         never,
		" null":                        never,
		"null://null":                  never,
		"file://":                      never,
		"file:///srv/app/index.html":   never,
		"data:text/html,x":             never,
		"about:blank":                  never,
		"blob:https://app.example.com": never,
	} {
		strict, relaxed := Check(origin, false), Check(origin, true)
		if (strict == nil) != (want == always) || (relaxed == nil) != (want != never) {
			t.Errorf("%q: %v, insecure %v", origin, strict, relaxed)
		}
		if want == insecure && !strings.Contains(strict.Error(), "set insecure: true") {
			t.Errorf("%q: %v does not say how to allow it", origin, strict)
		}
	}
	if err := Check("null", true); !strings.Contains(err.Error(), "any author") {
		t.Errorf("null: %v", err)
	}
}

func TestAppsHaveFixedForms(t *testing.T) {
	for origin, ok := range map[string]bool{
		"capacitor://localhost":                                true,
		"ionic://localhost":                                    true,
		"tauri://localhost":                                    true,
		"chrome-extension://" + extension:                      true,
		"moz-extension://2b1c7f6e-0d4a-4c1e-9a51-6f0e8d3c2b1a": true,

		"capacitor://":                                           false,
		"capacitor://app.example.com":                            false,
		"capacitor://localhost:8080":                             false,
		"capacitor://localhost/":                                 false,
		"Capacitor://localhost":                                  false,
		"ionic://127.0.0.1":                                      false,
		"tauri://tauri.localhost":                                false,
		"chrome-extension://":                                    false,
		"chrome-extension://*":                                   false,
		"chrome-extension://" + extension + "a":                  false,
		"chrome-extension://" + extension[1:]:                    false,
		"chrome-extension://" + extension + ":1":                 false,
		"chrome-extension://" + extension + "/popup.html":        false,
		"chrome-extension://" + strings.ToUpper(extension):       false,
		"chrome-extension://" + strings.Repeat("q", 32):          false,
		"moz-extension://" + extension:                           false,
		"moz-extension://2B1C7F6E-0D4A-4C1E-9A51-6F0E8D3C2B1A":   false,
		"moz-extension://2b1c7f6e0d4a4c1e9a516f0e8d3c2b1a":       false,
		"moz-extension://{2b1c7f6e-0d4a-4c1e-9a51-6f0e8d3c2b1a}": false,

		"safari-web-extension://2b1c7f6e-0d4a-4c1e-9a51-6f0e8d3c2b1a": false,
		"app://localhost":      false,
		"electron://localhost": false,
		"ftp://localhost":      false,
		"ws://localhost":       false,
		"javascript://x":       false,
	} {
		if err := Check(origin, true); (err == nil) != ok {
			t.Errorf("%q: %v", origin, err)
		}
		if ok && !IsApp(origin) {
			t.Errorf("%q is not taken for an app", origin)
		}
	}
	for _, page := range []string{"https://app.example.com", "http://localhost", "null", "", "capacitor", "https://capacitor"} {
		if IsApp(page) {
			t.Errorf("%q is taken for an app", page)
		}
	}
}

// FuzzCheck: an origin that can be listed is one that the request check can trust, and is written
// in one way only.
func FuzzCheck(f *testing.F) {
	for _, s := range []string{
		"https://app.example.com", "http://[::1]:80", "null", "capacitor://localhost", "https://é", "https://a:443:443",
		"https://A%41/", "//x", "https://[fe80::1%25eth0]", "moz-extension://2b1c7f6e-0d4a-4c1e-9a51-6f0e8d3c2b1a", "https://0x.1.",
	} {
		f.Add(s, true)
	}
	f.Fuzz(func(t *testing.T, s string, insecure bool) {
		if Check(s, insecure) != nil {
			return
		}
		if err := http.NewCrossOriginProtection().AddTrustedOrigin(s); err != nil {
			t.Fatalf("%q can be listed, and the check of requests refuses it: %v", s, err)
		}
		u, err := url.Parse(s)
		if err != nil || s != u.Scheme+"://"+u.Host || s != strings.ToLower(s) || len(s) > MaxBytes {
			t.Fatalf("%q can be listed", s)
		}
	})
}
