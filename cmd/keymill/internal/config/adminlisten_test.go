package config

import (
	"strings"
	"testing"

	"keymill/cmd/keymill/internal/terminal/terminaltest"
)

func TestTheAdminListenerNeedsTLSOrLoopbackAndAPortOfItsOwn(t *testing.T) {
	terminaltest.ClearEnvironment(t)
	tls := map[string]string{"tls.cert_file": "a.pem", "tls.key_file": "a.key"}
	for _, tt := range []struct {
		address string
		more    map[string]string
		want    string // of the error; "" for none
	}{
		{"127.0.0.1:8421", nil, ""},
		{"[::1]:8421", nil, ""},
		{"localhost:8421", nil, ""},
		{"127.0.0.1:0", nil, ""},
		{"0.0.0.0:8421", tls, ""},
		{"127.0.0.1:8421", tls, ""},
		{"0.0.0.0:8421", nil, "is not loopback"},
		{":8421", nil, "is not loopback"},
		{"192.0.2.1:8421", nil, "is not loopback"},
		{"admin.example.com:8421", nil, "is not loopback"},
		{"127.0.0.1", nil, "is not an address"},
		{"127.0.0.1:x", nil, "is not a port"},
		{"127.0.0.1:8420", nil, "has the port of listen"},
		{"127.0.0.1:9420", map[string]string{"metrics.listen": "127.0.0.1:9420"}, "has the port of metrics.listen"},
	} {
		flags := map[string]string{"admin.listen": tt.address, "issuer": "https://id.example.com"}
		for key, value := range tt.more {
			flags[key] = value
		}
		c, err := Load("", flags, false)
		if err == nil {
			err = c.Check()
		}
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "admin.listen")) {
			t.Errorf("%s with %v: %v, want %q", tt.address, tt.more, err, tt.want)
		}
	}
}
