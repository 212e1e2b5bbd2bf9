package issuer

import (
	"strings"
	"testing"
)

func TestAnIssuerURLHasOnlySchemeAndHost(t *testing.T) {
	for _, tt := range []struct {
		url      string
		insecure bool
		want     string // part of the error; "" means accepted
	}{
		{"https://auth.example.com", false, ""},
		{"https://auth.example.com:8443", false, ""},
		{"http://127.0.0.1:8420", false, ""},
		{"http://localhost", false, ""},
		{"http://[::1]:8420", false, ""},
		{"http://auth.internal", true, ""},
		{"http://auth.internal", false, "https"},
		{"http://127.0.0.1.evil.example", false, "https"},
		{"", false, "not set"},
		{"auth.example.com", false, "not a URL"},
		{"https://", false, "not a URL"},
		{"ftp://auth.example.com", false, "scheme"},
		{"https://auth.example.com/", false, "trailing slash"},
		{"https://auth.example.com/tenant", false, "path"},
		{"https://auth.example.com?x=1", false, "query"},
		{"https://auth.example.com?", false, "query"},
		{"https://auth.example.com#f", false, "fragment"},
		{"https://auth.example.com#", false, "fragment"},
		{"https://me:pw@auth.example.com", false, "user"},
		{"https://Auth.example.com", false, "lower case"},
		{"HTTPS://auth.example.com", false, "lower case"},
		{"https://auth.example.com:", false, "port"},
		{"https://:443", false, "host"},
		{"https://auth.example.com:443", false, "port"},
		{"https://auth.example.com:0443", false, "port"},
		{"https://auth.example.com:99999", false, "port"},
		{"https://a,b", false, "host"},
		{"https://[::1]:8443", false, ""},
		{"https://auth.example.com:8443", false, ""},
		{"https://auth.exämple.com", false, "not a URL"},
		{"https://auth.example.com\n", false, "not a URL"},
	} {
		err := CheckURL(tt.url, tt.insecure)
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%q: %v", tt.url, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%q: got %v, want an error about %q", tt.url, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), "pw") {
			t.Errorf("%q: the error shows the password: %v", tt.url, err)
		}
	}
}
