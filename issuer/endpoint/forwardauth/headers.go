package forwardauth

import (
	"fmt"
	"strings"

	"keymill/issuer/accesstoken"
)

// absent is the value of a header whose claim the token does not have. All headers are always sent, so that a proxy
// replaces those of its client. An empty value would not do: proxies drop or ignore it.
const absent = "-"

// maxHeaderBytes bounds all values together. Tokens of this program need less. Those of an imported key can have
// longer claims, and a proxy refuses a long header with an error of its own.
const maxHeaderBytes = 4000

// headersOf returns the headers for the service: name → value.
func headersOf(t *accesstoken.Token) (map[string]string, error) {
	headers := map[string]string{
		"X-Auth-Subject": encode(t.Subject),
		"X-Auth-Client":  encode(t.Client),
		"X-Auth-Scope":   scopeText(t.Scope),
		"X-Auth-Session": absent,
	}
	if t.HasSession() {
		headers["X-Auth-Session"] = t.Session.String()
	}
	size := 0
	for _, value := range headers {
		size += len(value)
	}
	if size > maxHeaderBytes {
		return nil, fmt.Errorf("they have %d bytes, more than %d", size, maxHeaderBytes)
	}
	return headers, nil
}

// encode returns a claim as the value of a header: visible ASCII without a percent sign stays, and every other byte is
// percent-encoded (RFC 3986, section 2.1). So two claims never have the same value, no value ends a line, and none is
// "-", which means that the token does not have the claim.
func encode(claim string) string {
	switch claim {
	case "":
		return absent
	case absent:
		return "%2D"
	}
	var b strings.Builder
	for _, c := range []byte(claim) {
		if c > ' ' && c <= '~' && c != '%' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// scopeText returns the scopes with one space between them, each encoded. A token of an imported key can
// have others than RFC 6749 allows.
func scopeText(claim string) string {
	var scopes []string
	for s := range strings.SplitSeq(claim, " ") {
		if s != "" {
			scopes = append(scopes, encode(s))
		}
	}
	if len(scopes) == 0 {
		return absent
	}
	return strings.Join(scopes, " ")
}
