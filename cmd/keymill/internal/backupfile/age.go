package backupfile

import (
	"bytes"
	"fmt"
	"strings"

	"filippo.io/age"

	"keymill/cmd/keymill/internal/namedfile"
	"keymill/cmd/keymill/internal/terminal"
)

// maxKeyFile bounds a file of recipients or identities.
const maxKeyFile = 1 << 20

// Recipients reads public keys of age, "age1…", from the command line and from files.
func Recipients(keys, files []string) (all []age.Recipient, err error) {
	for _, key := range keys {
		if strings.HasPrefix(strings.TrimSpace(key), "AGE-SECRET-KEY-") {
			return nil, terminal.Usage("--recipient takes a public key, and this is a secret one; age-keygen -y prints the public key")
		}
		r, err := age.ParseRecipients(strings.NewReader(key))
		if err != nil {
			return nil, terminal.WithHint(terminal.Usage("--recipient %q is not a public key of age", key), "it begins with age1; age-keygen prints it")
		}
		all = append(all, r...)
	}
	for _, name := range files {
		raw, err := namedfile.Read(name, maxKeyFile)
		if err != nil {
			return nil, err
		}
		r, err := age.ParseRecipients(bytes.NewReader(raw))
		all = append(all, r...)
		if err != nil {
			return nil, terminal.WithHint(fmt.Errorf("%s holds no public keys of age", name), "one key that begins with age1 on each line; \"#\" begins a comment")
		}
	}
	return all, nil
}

// Identities reads files with secret keys of age. Its errors quote nothing of them.
func Identities(files []string) (all []age.Identity, err error) {
	for _, name := range files {
		raw, err := namedfile.Read(name, maxKeyFile)
		if err != nil {
			return nil, err
		}
		ids, err := age.ParseIdentities(bytes.NewReader(raw))
		all = append(all, ids...)
		if err != nil {
			return nil, terminal.WithHint(fmt.Errorf("%s holds no secret key of age", name), "a line that begins with AGE-SECRET-KEY-, as age-keygen writes it; a key with a passphrase must be decrypted first")
		}
	}
	return all, nil
}
