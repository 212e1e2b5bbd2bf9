package jwks

import (
	"testing"
)

// BenchmarkVerify compares a verification with the bare check of its signature.
func BenchmarkVerify(b *testing.B) {
	set := mustSet(b, edKey("ed"), rsaKey("rsa"), ecKey("ec"))
	for _, alg := range []struct{ name, kid, header string }{
		{EdDSA, "ed", edHeader("")},
		{RS256, "rsa", rsaHeader},
		{ES256, "ec", ecHeader},
	} {
		token := sign(alg.header, livePayload())
		_, parts, err := split(token)
		if err != nil {
			b.Fatal(err)
		}
		key, _ := set.Key(alg.kid)
		b.Run(alg.name+"/bare", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !key.signed(parts.signed, parts.signature) {
					b.Fatal("wrong signature")
				}
			}
		})
		for name, entries := range map[string]int{"first": 0, "hit": 100} {
			v := newVerifier(b, set, entries)
			b.Run(alg.name+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := v.Verify(b.Context(), token); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
