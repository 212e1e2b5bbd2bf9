package config

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"keymill/cmd/keymill/internal/terminal"
	"keymill/cmd/keymill/internal/terminal/terminaltest"
)

// TestVariablesOfKubernetesServicesAreIgnored: an operator did not write them and cannot
// change their names. They are what Kubernetes 1.31 sets for four Services.
func TestVariablesOfKubernetesServicesAreIgnored(t *testing.T) {
	terminaltest.ClearEnvironment(t)
	plain, err := Load("", nil, false)
	if err != nil || plain.ServiceLinks() != nil {
		t.Fatalf("%v, %v", err, plain.ServiceLinks())
	}
	var names []string
	for name, value := range map[string]string{
		"KEYMILL_SERVICE_HOST":            "10.0.0.7", // a Service keymill
		"KEYMILL_SERVICE_PORT":            "80",
		"KEYMILL_SERVICE_PORT_HTTP":       "80",
		"KEYMILL_PORT":                    "tcp://10.0.0.7:80",
		"KEYMILL_PORT_80_TCP":             "tcp://10.0.0.7:80",
		"KEYMILL_PORT_80_TCP_PROTO":       "tcp",
		"KEYMILL_PORT_80_TCP_PORT":        "80",
		"KEYMILL_PORT_80_TCP_ADDR":        "10.0.0.7",
		"KEYMILL_PORT_8420_TCP_ADDR":      "10.0.0.7",
		"KEYMILL_DATA_SERVICE_HOST":       "fd00::7", // keymill-data, with IPv6
		"KEYMILL_DATA_PORT":               "udp://[fd00::7]:53",
		"KEYMILL_DATA_PORT_53_UDP":        "udp://[fd00::7]:53",
		"KEYMILL_DATA_PORT_53_UDP_PROTO":  "udp",
		"KEYMILL_DATA_PORT_53_UDP_ADDR":   "fd00::7",
		"KEYMILL_PORT_SERVICE_PORT":       "132", // keymill-port
		"KEYMILL_PORT_PORT":               "sctp://10.0.0.8:132",
		"KEYMILL_PORT_PORT_132_SCTP_PORT": "132",
		"KEYMILL_WEB_2_SERVICE_PORT_A_B":  "8443", // keymill-web-2, with a port a-b
		"KEYMILL_WEB_2_PORT_8443_TCP":     "tcp://10.0.0.9:8443",
	} {
		t.Setenv(name, value)
		names = append(names, name)
	}
	slices.Sort(names)
	c, err := Load("", nil, false)
	if err != nil {
		t.Fatal(err)
	}
	if got := c.ServiceLinks(); !slices.Equal(got, names) {
		t.Errorf("ignored %q\nwant    %q", got, names)
	}
	c.serviceLinks, c.source, plain.source = nil, nil, nil
	if !reflect.DeepEqual(c, plain) {
		t.Errorf("they change settings: %+v", c)
	}
}

// TestOtherUnknownVariablesStayErrors, also if they are nearly those of Kubernetes.
func TestOtherUnknownVariablesStayErrors(t *testing.T) {
	terminaltest.ClearEnvironment(t)
	for _, tt := range []struct{ name, value, hint string }{
		{"KEYMILL_LISTN", "127.0.0.1:1", "did you mean KEYMILL_LISTEN?"},
		{"KEYMILL_LOG_LEVL", "debug", "did you mean KEYMILL_LOG_LEVEL?"},
		{"KEYMILL_LISTN", "tcp://10.0.0.7:80", "did you mean KEYMILL_LISTEN?"},
		{"KEYMILL_ISSUER_", "10.0.0.7", "did you mean KEYMILL_ISSUER?"},
		{"KEYMILL_PORT", "8420", "did you mean KEYMILL_LISTEN?"},
		{"KEYMILL_PORT", "127.0.0.1:8420", "did you mean KEYMILL_LISTEN?"},
		{"KEYMILL_PORT", "http://10.0.0.7:80", "did you mean KEYMILL_LISTEN?"},
		{"KEYMILL_PORT", "tcp://10.0.0.7", "did you mean KEYMILL_LISTEN?"},
		{"KEYMILL_SERVICE_HOST", "id.example.com", ""},
		{"KEYMILL_SERVICE_PORT", "http", ""},
		{"KEYMILL_SERVICE_PORT_", "80", ""},
		{"KEYMILL_SERVICE_PORT", "65536", ""},
		{"KEYMILL_PORT_80_TCP_PROTO", "http", ""},
		{"KEYMILL_PORT_80_HTTP", "tcp://10.0.0.7:80", ""},
		{"KEYMILL_PORT_80_TCP_HOST", "10.0.0.7", ""},
		{"KEYMILLPORT_SERVICE_HOST", "10.0.0.7", "-"},
	} {
		t.Run(tt.name+"="+tt.value, func(t *testing.T) {
			t.Setenv(tt.name, tt.value)
			_, err := Load("", nil, false)
			if tt.hint == "-" { // it is not ours at all
				if err != nil {
					t.Error(err)
				}
				return
			}
			var shown *terminal.Error
			if !errors.As(err, &shown) || shown.Error() != "unknown variable "+tt.name+" in the environment" {
				t.Fatalf("got %v", err)
			}
			if !strings.Contains(shown.Hint, tt.hint) {
				t.Errorf("the hint is %q, want %q", shown.Hint, tt.hint)
			}
		})
	}
}
