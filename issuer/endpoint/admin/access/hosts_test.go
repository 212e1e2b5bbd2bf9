package access

import (
	"crypto/x509"
	"net"
	"testing"
)

func TestOnlyTheHostsOfTheListenerAreAnswered(t *testing.T) {
	certificate := &x509.Certificate{
		DNSNames: []string{"id.example.com", "*.internal.example.com"}, IPAddresses: []net.IP{net.ParseIP("192.0.2.7"), net.ParseIP("2001:db8::7")},
	}
	loopback := Hosts{Port: "9421", Loopback: true}
	tls := Hosts{Port: "9421", Certificate: func() *x509.Certificate { return certificate }}
	second := Hosts{Port: "9421", Loopback: true, Address: "127.0.0.2"}
	both := Hosts{Port: "443", Loopback: true, Certificate: tls.Certificate}
	web := Hosts{Port: "80", Loopback: true}
	for _, tt := range []struct {
		hosts Hosts
		host  string
		want  bool
	}{
		{loopback, "127.0.0.1:9421", true},
		{loopback, "[::1]:9421", true},
		{loopback, "localhost:9421", true},
		{loopback, "LOCALHOST:9421", true},
		{loopback, "127.0.0.1", false}, // port 80
		{loopback, "localhost", false},
		{loopback, "127.0.0.1:9422", false},
		{loopback, "127.0.0.1:09421", false},
		{loopback, "127.0.0.2:9421", false},
		{loopback, "::1:9421", false},
		{loopback, "localhost.:9421", false},
		{loopback, "evil.example:9421", false},
		{loopback, "id.example.com:9421", false},
		{loopback, "", false},
		{loopback, ":9421", false},
		{loopback, "localhost:", false},
		{second, "127.0.0.2:9421", true},
		{second, "127.0.0.1:9421", true},
		{second, "127.0.0.3:9421", false},
		{second, "127.0.0.2", false},
		{web, "localhost", true},
		{web, "[::1]", true},
		{web, "::1", false},
		{tls, "id.example.com:9421", true},
		{tls, "ID.example.com:9421", true},
		{tls, "id.example.com", false}, // port 443
		{tls, "id.example.com:443", false},
		{tls, "a.internal.example.com:9421", true},
		{tls, "a.b.internal.example.com:9421", false},
		{tls, "internal.example.com:9421", false},
		{tls, "192.0.2.7:9421", true},
		{tls, "[2001:db8::7]:9421", true},
		{tls, "192.0.2.8:9421", false},
		{tls, "127.0.0.1:9421", false},
		{tls, "localhost:9421", false},
		{both, "id.example.com", true},
		{both, "id.example.com:443", true},
		{both, "127.0.0.1", true},
		{both, "[2001:db8::7]", true},
		{both, "example.com", false},
	} {
		if got := tt.hosts.serve(tt.host); got != tt.want {
			t.Errorf("%+v: %q is %v", tt.hosts, tt.host, got)
		}
	}
}
