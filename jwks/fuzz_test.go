package jwks

import (
	"bytes"
	"context"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// FuzzToken checks that only a token that was signed is accepted, byte for byte. Signatures of
// Ed25519 and RSASSA-PKCS1-v1_5 are unique, and so is the encoding of a token, so no second
// form of a token exists that could be accepted too. A token of ES256 has two forms.
func FuzzToken(f *testing.F) {
	ours := ourTokens()
	for _, token := range slices.Sorted(maps.Keys(ours)) {
		f.Add(token)
		for _, miss := range nearMisses(token) {
			f.Add(miss)
		}
	}
	for _, token := range []string{"", "..", rfc7515A1, rfc7515A3, rfc7515A5, rfc7515A6, rfc7515JWS, rfc8037JWS} {
		f.Add(token)
	}
	set := mustSet(f, edKey("ed"), rsaKey("rsa"), ecKey("ec"))
	other := mustSet(f, rsaKey("ed"), edKey("ec"))
	plain, caching := newVerifier(f, set, 0), newVerifier(f, set, 64)
	f.Fuzz(func(t *testing.T, token string) {
		_, err := Check(token, set, wanted(), now)
		_, plainErr := plain.Verify(context.Background(), token)
		_, cachingErr := caching.Verify(context.Background(), token)
		for _, err := range []error{err, plainErr, cachingErr} {
			if (err == nil) != ours[token] {
				t.Fatalf("%q: %v; signed by us: %v", token, err, ours[token])
			}
			if err != nil {
				oneSentinel(t, err)
			}
		}
		if _, err := Check(token, other, wanted(), now); err == nil {
			t.Fatal("accepted by a set that lacks the key")
		}
	})
}

// ourTokens are valid at every time that these tests use.
func ourTokens() map[string]bool {
	ours := map[string]bool{}
	for _, p := range []string{
		livePayload(),
		livePayload("aud", `["billing","orders"]`, "x", `{"y":[1,2.5e3,null,"\u00e9\ud83d\ude00"]}`),
		livePayload("exp", "4102444800.25", "nbf", "0", "scope", "", "sid", ""),
	} {
		ours[sign(edHeader(""), p)] = true
		ours[sign(rsaHeader, p)] = true
		ours[sign(ecHeader, p)], ours[mirrored(sign(ecHeader, p))] = true, true
	}
	ours[sign(`{"typ":"application/AT+JWT","alg":"Ed25519","kid":"ed","jwk":{}}`, livePayload())] = true
	return ours
}

const rsaHeader = `{"alg":"RS256","kid":"rsa","typ":"at+jwt"}`

// nearMisses differ from token in details that a lax reader overlooks.
func nearMisses(token string) []string {
	signed, signature, _ := cutLast(token)
	first, payload, _ := strings.Cut(signed, ".")
	return []string{
		token + "=", token + "\n", token[:len(token)-1], token + "A", token + ".",
		signed + ".", signed + "." + strings.ToLower(signature), first + "." + payload[1:] + "." + signature,
		encode(`{"alg":"none","kid":"ed","typ":"at+jwt"}`) + "." + payload + ".",
		encode(edHeader(`,"crit":["b64"],"b64":false`)) + "." + payload + "." + signature,
		first + "." + encode(livePayload("sub", `"mallory"`)) + "." + signature,
	}
}

// FuzzHeaderAndPayload signs its input, so that the claims are read too.
func FuzzHeaderAndPayload(f *testing.F) {
	f.Add(edHeader(""), payload())
	f.Add(edHeader(`,"crit":[]`), payload("exp", "1e400"))
	set := mustSet(f, edKey("ed"))
	f.Fuzz(func(t *testing.T, header, payload string) {
		c, err := Check(sign(header, payload), set, wanted(), now)
		if err != nil {
			oneSentinel(t, err)
			return
		}
		if !c.Expires.After(now) || c.Subject == "" || c.KID != "ed" {
			t.Fatalf("accepted %+v", c)
		}
		if _, err := referenceStrict([]byte(header)); err != nil {
			t.Fatalf("the header %q: %v", header, err)
		}
	})
}

// FuzzClaims checks that the scanner accepts what the reference accepts, and reads the same.
func FuzzClaims(f *testing.F) {
	for _, p := range claimTraps {
		f.Add([]byte(p))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		got, err := readClaims(payload)
		want, wantErr := referenceClaims(payload)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("%q: %v; the reference: %v", payload, err, wantErr)
		}
		if err == nil && !reflect.DeepEqual(got, want) {
			t.Fatalf("%q:\n%+v\n%+v", payload, got, want)
		}
	})
}

// TestClaimsAreReadAsTheReferenceReadsThem compares the seeds of FuzzClaims, and texts that are
// too long for a seed.
func TestClaimsAreReadAsTheReferenceReadsThem(t *testing.T) {
	traps := append(claimTraps[:len(claimTraps):len(claimTraps)],
		`{"x":`+strings.Repeat("[", 15)+strings.Repeat("]", 15)+`}`,
		`{"x":`+strings.Repeat("[", 16)+strings.Repeat("]", 16)+`}`,
		strings.Repeat(`{"x":`, 16)+"1"+strings.Repeat("}", 16),
		strings.Repeat(`{"x":`, 17)+"1"+strings.Repeat("}", 17),
		manyMembers(31), manyMembers(32), manyMembers(33), manyMembers(500),
		`{"a":{`+manyMembers(40)[1:]+`,"b":`+manyMembers(40)+`,"n1":0}`,
		strings.TrimSuffix(manyMembers(500), "}")+`,"n\u0034":0}`,
		strings.TrimSuffix(manyMembers(33), "}")+`,"n32":0}`,
		`{"a":`+strings.TrimSuffix(manyMembers(33), "}")+`,"n0":0}}`,
	)
	accepted := 0
	for _, p := range traps {
		got, err := readClaims([]byte(p))
		want, wantErr := referenceClaims([]byte(p))
		if (err == nil) != (wantErr == nil) || err == nil && !reflect.DeepEqual(got, want) {
			t.Errorf("%.200q: %+v, %v; the reference: %+v, %v", p, got, err, want, wantErr)
		}
		if err == nil {
			accepted++
		}
	}
	if accepted < 15 || accepted > len(traps)-30 {
		t.Errorf("%d of %d are accepted: the rows test too little", accepted, len(traps))
	}
}

// manyMembers returns an object of n members, named n0 and up.
func manyMembers(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(`,"n` + strconv.Itoa(i) + `":0`)
	}
	return "{" + strings.TrimPrefix(b.String(), ",") + "}"
}

// claimTraps are payloads that are known to be read differently by different readers.
var claimTraps = []string{
	`{}`, ` {} `, "\t\r\n{\t\r\n}\t\r\n", `[]`, `null`, `7`, ``, ` `, `{`, `}`, `{}{}`, `{},`, `{}x`, "{}\x00",
	"\xef\xbb\xbf{}", "{\"iss\":\"\xff\"}", "{\"iss\":\"\xed\xa0\x80\"}", "{\"iss\":\"a\x00b\"}", `{"iss":"a\u0000b"}`,
	payload(), payload("x", `{"y":[1,{"z":[]}],"w":{}}`), payload("aud", `["a","b"]`), payload("aud", `[]`),
	payload("aud", `[["orders"]]`), payload("aud", `["orders",1]`), payload("aud", `null`), payload("aud", ` [ "a" , "b" ] `),
	`{"iss":"a","iss":"b"}`, `{"iss":"a","ISS":"b"}`, `{"iss":"a","\u0069ss":"b"}`, `{"a":{"b":1,"b":1}}`, `{"a":[{"b":1,"\u0062":1}]}`,
	`{"":1,"":2}`, `{"":1}`, `{"iss":7}`, `{"iss":null}`, `{"sub":["a"]}`,
	`{"iss":"\"\\\/\b\f\n\r\t\u00E9\uD83D\uDE00"}`, `{"iss":"\u"}`, `{"iss":"\u12g4"}`, `{"iss":"\x41"}`, `{"iss":"\`, `{"iss":"\"}`,
	`{"x":"\ud800"}`, `{"x":"\udc00"}`, `{"x":"\ud800\ud800"}`, `{"x":"\ud800\n\udc00"}`, `{"\ud800":1}`, `{"x":"\\ud800"}`, `{"x":"\ud83d\ude00"}`,
	`{"x":"\ud83dA"}`, `{"x":"\ud83dxxde00"}`, `{"x":"\ud83d\nde00"}`, `{"x":"\ufffd"}`, `{"x":"\ud800\u0041"}`,
	`{"exp":"1"}`, `{"exp":null}`, `{"exp":1e400}`, `{"exp":-1}`, `{"exp":-0}`, `{"exp":1.5}`, `{"exp":1e3}`, `{"exp":1E+3}`, `{"exp":5e-1}`,
	`{"exp":253402300799}`, `{"exp":253402300800}`, `{"exp":253402300799.99999999}`, `{"exp":01}`, `{"exp":1.}`, `{"exp":.5}`, `{"exp":+1}`, `{"exp":1e}`,
	`{"exp":0x10}`, `{"exp":1_0}`, `{"exp":NaN}`, `{"exp":Infinity}`, `{"exp":-}`, `{"exp":[1]}`, `{"exp":1 }`, `{"exp":1e-400}`, `{"exp":12345678901234567890}`,
	`{"a":tru}`, `{"a":true}`, `{"a":false}`, `{"a":nul}`, `{"a":nulll}`, `{"a":True}`, `{'a':1}`, `{a:1}`, `{"a" 1}`, `{"a":}`, `{"a":1,}`, `{,}`, `{"a":[1,]}`, `{"a":[,]}`,
	`{"a":[1 2]}`, `{"a":[}`, `{"a":{]}`, `{"a":1}}`, `{/**/}`, `{"a":"` + "\n" + `"}`, "{\u00a0}", `{"a":"` + "\u2028" + `"}`, `{"nbf":1,"iat":2,"exp":3}`,
}

// FuzzSet checks that the set of any document can be published and read back, and that Parse
// accepts a document if the reference does.
func FuzzSet(f *testing.F) {
	f.Add([]byte(`{"keys":[` + rfc7515Key + `,` + rfc8037Key + `]}`))
	f.Add([]byte(`{"keys":[{"kty":"OKP"},{"kid":"k","kid":"k"},7,` + rfc7638Key + `]}`))
	f.Add([]byte(`{"x":{"a":1,"a":"\ud800"},"keys":[` + strings.Replace(rfc8037Key, `"a"`, `"a\u00e9\ud83d\ude00"`, 1) + `]}`))
	f.Add([]byte(`{"keys":[` + rfc8037Key + `,` + rfc8037Key + `]}`))
	f.Add([]byte(`{"keys":[],"keys":[]}`))
	f.Add([]byte(`{"k\ud800":1,"keys":[]}`))
	f.Add(mustSet(f, edKey("ed"), rsaKey("rsa"), ecKey("ec")).JSON())
	for _, k := range badP256Keys() {
		f.Add([]byte(`{"keys":[` + k.member + `]}`))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		set, err := Parse(b)
		if (err == nil) != referenceDocument(b) {
			t.Fatalf("%q: %v; the reference: %v", b, err, referenceDocument(b))
		}
		if err != nil {
			return
		}
		again, err := Parse(set.JSON())
		if err != nil || !bytes.Equal(again.JSON(), set.JSON()) || again.Skipped().Count != 0 {
			t.Fatalf("%v: %s became %s", err, set.JSON(), again.JSON())
		}
		for _, k := range set.Keys() {
			if err := k.check(); err != nil {
				t.Fatal(err)
			}
		}
	})
}
