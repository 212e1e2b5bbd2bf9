// Command roots prints the certificates of Mozilla's program as PEM, for the container image: it has
// no others, and a webhook over https needs them. go.sum pins them, so a release of the same commit
// has the same ones, on every machine. A root that Mozilla trusts with a constraint is left out,
// because PEM cannot express it.
package main

import (
	"bufio"
	"encoding/pem"
	"fmt"
	"os"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "roots:", err)
		os.Exit(1)
	}
}

func run() error {
	w := bufio.NewWriter(os.Stdout)
	for root := range bundle.Roots() {
		if root.Constraint != nil {
			continue
		}
		if err := pem.Encode(w, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}); err != nil {
			return err
		}
	}
	return w.Flush()
}
