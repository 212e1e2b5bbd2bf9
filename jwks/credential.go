package jwks

import (
	"fmt"
	"strings"
)

// Where a verifier sends its credential to Keymill, see RemoteConfig.Verifier: in a header of the request for the
// key set, or, if it cannot set headers, in a parameter of the key set's URL. The header wins. Other
// issuers ignore both.
const (
	VerifierHeader    = "Keymill-Verifier"
	VerifierParameter = "verifier"
)

// A credential is a name, a dot and a tag in base32 (RFC 4648, section 6) in lower case.
const (
	maxCredentialName = 63
	credentialTag     = 16

	nameCharacters = "abcdefghijklmnopqrstuvwxyz0123456789_-"
	tagCharacters  = "abcdefghijklmnopqrstuvwxyz234567"
)

// checkCredential checks the form of a credential, so that a mistake shows at the start and not in the list of
// verifiers. Its error does not repeat the credential.
func checkCredential(c string) error {
	name, tag, _ := strings.Cut(c, ".")
	named := name != "" && len(name) <= maxCredentialName && strings.Trim(name, nameCharacters) == "" && name[0] != '-' && name[0] != '_'
	tagged := len(tag) == credentialTag && strings.Trim(tag, tagCharacters) == ""
	if c == "" || named && tagged {
		return nil
	}
	return fmt.Errorf("Verifier has %d bytes that are not NAME.TAG; give the credential as keymill verifier add prints it, without the URL around it", len(c))
}

// shown returns the address of a key set for logs and errors. The value of VerifierParameter is a
// credential and is left out.
func shown(location string) string {
	path, query, found := strings.Cut(location, "?")
	if !found {
		return location
	}
	parameters := strings.Split(query, "&")
	for n, p := range parameters {
		if strings.HasPrefix(p, VerifierParameter+"=") {
			parameters[n] = VerifierParameter + "=…"
		}
	}
	return path + "?" + strings.Join(parameters, "&")
}
