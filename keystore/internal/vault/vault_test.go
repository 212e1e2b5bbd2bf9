package vault

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func testVault(fill byte, database string) *Vault {
	return New([keyBytes]byte(bytes.Repeat([]byte{fill}, keyBytes)), database)
}

// TestAnotherKeySealsAndTheLastOneStillOpens, and no earlier one.
func TestAnotherKeySealsAndTheLastOneStillOpens(t *testing.T) {
	v := testVault(1, "db")
	first, err := v.Seal("private/x", []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	other := [keyBytes]byte(bytes.Repeat([]byte{2}, keyBytes))
	v.Rekey(other)
	v.Rekey(other) // of a keyring that was only sealed again
	if plain, err := v.Open("private/x", first); err != nil || string(plain) != "secret" {
		t.Errorf("a record of the last key: %q, %v", plain, err)
	}
	second, err := v.Seal("private/x", []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := testVault(1, "db").Open("private/x", second); err == nil {
		t.Error("the last key still seals")
	}
	v.Rekey([keyBytes]byte(bytes.Repeat([]byte{3}, keyBytes)))
	if _, err := v.Open("private/x", first); err == nil {
		t.Error("an earlier key opens")
	}
}

func TestASealedRecordOpensOnlyInItsPlace(t *testing.T) {
	v := testVault(1, "db-a")
	sealed, err := v.Seal("private/x", []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := v.Open("private/x", sealed); err != nil || string(plain) != "secret" {
		t.Fatalf("opened %q, %v", plain, err)
	}
	for name, open := range map[string]func() ([]byte, error){
		"under another storage key":                         func() ([]byte, error) { return v.Open("private/y", sealed) },
		"in another database":                               func() ([]byte, error) { return testVault(1, "db-b").Open("private/x", sealed) },
		"under another data key":                            func() ([]byte, error) { return testVault(2, "db-a").Open("private/x", sealed) },
		"with database and storage key divided differently": func() ([]byte, error) { return testVault(1, "db-ap").Open("rivate/x", sealed) },
		"empty": func() ([]byte, error) { return v.Open("private/x", nil) },
	} {
		if plain, err := open(); err == nil {
			t.Errorf("the record opened %s: %q", name, plain)
		}
	}
}

func TestAChangedSealedRecordDoesNotOpen(t *testing.T) {
	v := testVault(1, "db")
	sealed, _ := v.Seal("k", []byte("secret"))
	for i := range sealed {
		for _, flip := range []byte{1, 0x80} {
			changed := bytes.Clone(sealed)
			changed[i] ^= flip
			if _, err := v.Open("k", changed); err == nil {
				t.Errorf("the record opens after byte %d was changed", i)
			}
		}
		if _, err := v.Open("k", sealed[:i]); err == nil {
			t.Errorf("the record opens after it was cut to %d bytes", i)
		}
	}
}

func TestNoTwoRecordsShareASalt(t *testing.T) {
	v := testVault(1, "db")
	seen := make(map[string]bool)
	for range 10_000 {
		sealed, _ := v.Seal("k", nil)
		salt := string(sealed[1 : 1+saltBytes])
		if seen[salt] {
			t.Fatal("two records have the same salt")
		}
		seen[salt] = true
	}
}

// TestTheSealedFormatIsStable opens a record that an earlier build wrote. If this needs a new
// test file, existing stores cannot be opened.
func TestTheSealedFormatIsStable(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("testdata", "sealed-v1.hex"))
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := testVault(7, "golden").Open("private/golden", sealed)
	if err != nil || string(plain) != "sealed by version 1" {
		t.Errorf("opened %q, %v", plain, err)
	}
}

func FuzzOpenRefusesWhatWasNotSealed(f *testing.F) {
	v := testVault(1, "db")
	sealed, _ := v.Seal("k", []byte("secret"))
	f.Add(sealed)
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, b []byte) {
		if plain, err := v.Open("k", b); err == nil && !bytes.Equal(b, sealed) {
			t.Errorf("a record that was not sealed opened: %q", plain)
		}
	})
}

func TestAVaultCannotBePrinted(t *testing.T) {
	v := testVault('s', "db")
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if out := fmt.Sprintf(verb, v); strings.Contains(out, "115 115") || strings.Contains(out, "0x73, 0x73") {
			t.Errorf("%s prints a secret: %s", verb, out)
		}
	}
}
