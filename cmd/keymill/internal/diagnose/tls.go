package diagnose

import (
	"time"

	"keymill/cmd/keymill/internal/tlsfiles"
	"keymill/issuer/api"
)

// checkTLS reads the TLS files as a start does. What clients would refuse is a warning, as of a running server.
func (d *Doctor) checkTLS() {
	if !d.Config.UsesTLS() {
		return
	}
	if d.NewMasterKeyFile != "" {
		// An old certificate must not keep a stolen master key in use.
		d.findings.skip("tls", "a change of the master key does not need the certificate")
		return
	}
	now := time.Now()
	pair, err := tlsfiles.Load(d.Config, now)
	if err != nil {
		d.findings.add("tls", "", err)
		return
	}
	doubts := pair.Doubts(now)
	if len(doubts) == 0 {
		d.findings.add("tls", pair.String(), nil)
	}
	for _, text := range doubts {
		d.findings.warn([]api.Warning{{Check: "tls", Detail: text}})
	}
}
