package issuer

import (
	"strings"
	"testing"
)

func TestAnIssuerIsOneURL(t *testing.T) {
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
		{"https://auth.example.com/", false, "must not end with a slash"},
		{"https://example.com/auth", false, ""},
		{"https://example.com/Team-1/auth_v1.0", false, ""},
		{"http://127.0.0.1:8420/auth", false, ""},
		{"https://example.com/auth/", false, "must not end with a slash"},
		{"https://Example.com/auth/", false, "must not end with a slash"},
		{"https://example.com//", false, "must not end with a slash"},
		{"https://example.com//auth", false, "the path must consist of parts"},
		{"https://example.com/a//b", false, "the path must consist of parts"},
		{"https://example.com/.", false, "the path must consist of parts"},
		{"https://example.com/../auth", false, "the path must consist of parts"},
		{"https://example.com/.well-known", false, "the path must consist of parts"},
		{"https://example.com/a:b", false, "the path must consist of parts"},
		{"https://example.com/{auth}", false, "the path must consist of parts"},
		{"https://example.com/%61uth", false, "without escapes"},
		{"https://example.com/a%2fb", false, "without escapes"},
		{"https://example.com/auth;v=1", false, "the path must consist of parts"},
		{"https://example.com/auth?x=1", false, "query"},
		{"https://example.com/auth#f", false, "fragment"},
		{"https://me:pw@example.com/auth", false, "user"},
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
