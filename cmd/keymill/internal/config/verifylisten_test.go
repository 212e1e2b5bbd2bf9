package config

import (
	"strings"
	"testing"

	"keymill/cmd/keymill/internal/terminal"
	"keymill/cmd/keymill/internal/terminal/terminaltest"
)

// TestOnlyProxiesOfThisMachineMayAsk: a public address is refused before anything is opened.
//
// R128.
func TestOnlyProxiesOfThisMachineMayAsk(t *testing.T) {
	terminaltest.ClearEnvironment(t)
	for _, tt := range []struct {
		address string
		more    map[string]string
		want    string // of the error or its hint; "" for none
		socket  string
	}{
		{"", nil, "", ""},
		{"127.0.0.1:8423", nil, "", ""},
		{"[::1]:8423", nil, "", ""},
		{"localhost:8423", nil, "", ""},
		{"127.0.0.1:0", nil, "", ""},
		{"unix:/run/keymill-verify/sock", nil, "", "/run/keymill-verify/sock"},
		{"unix:///run/keymill-verify//sock", nil, "", "/run/keymill-verify/sock"},
		{"0.0.0.0:8423", nil, "is not loopback", ""},
		{"[::]:8423", nil, "is not loopback", ""},
		{":8423", nil, "is not loopback", ""},
		{"192.0.2.1:8423", nil, "is not loopback", ""},
		{"10.0.0.1:8423", map[string]string{"tls.cert_file": "a.pem", "tls.key_file": "a.key"}, "is not loopback", ""},
		{"id.example.com:8423", nil, "verify.listen: 127.0.0.1:8423", ""},
		{"127.0.0.1.example.com:8423", nil, "is not loopback", ""},
		{"127.0.0.1", nil, "is not an address", ""},
		{"127.0.0.1:x", nil, "is not a port", ""},
		{"127.0.0.1:8420", nil, "has the port of listen", ""},
		{"127.0.0.1:9420", map[string]string{"metrics.listen": "127.0.0.1:9420"}, "has the port of metrics.listen", ""},
		{"127.0.0.1:8422", map[string]string{"admin.listen": "127.0.0.1:8422"}, "has the port of admin.listen", ""},
		{"/run/keymill-verify/sock", nil, "unix:/run/keymill-verify/sock", ""},
		{"unix:", nil, "is not an absolute path", "."},
		{"unix:/", nil, "is not an absolute path", "/"},
		{"unix:sock", nil, "is not an absolute path", "sock"},
		{"unix:@keymill", nil, "is not an absolute path", "@keymill"}, // such a socket has no mode
		{"unix:/" + strings.Repeat("x", 107), nil, "at most 107", "/" + strings.Repeat("x", 107)},
		{"unix:/var/lib/keymill/verify.sock", map[string]string{"data": "/var/lib/keymill/"}, "in the data directory", "/var/lib/keymill/verify.sock"},
	} {
		flags := map[string]string{"verify.listen": tt.address, "issuer": "https://id.example.com", "data": "/var/lib/keymill"}
		for key, value := range tt.more {
			flags[key] = value
		}
		c, err := Load("", flags, false)
		if err == nil {
			if got := c.VerifySocket(); got != tt.socket {
				t.Errorf("%s: the socket is %q", tt.address, got)
			}
			err = c.Check()
		}
		switch {
		case tt.want == "" && err != nil, tt.want != "" && err == nil:
			t.Errorf("%s with %v: %v, want %q", tt.address, tt.more, err, tt.want)
		case err != nil && (!strings.Contains(err.Error()+terminal.HintOf(err), tt.want) || !strings.Contains(err.Error(), "verify.listen")):
			t.Errorf("%s with %v: %v; %s; want %q", tt.address, tt.more, err, terminal.HintOf(err), tt.want)
		}
	}
}
