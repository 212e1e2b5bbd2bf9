//go:build libcrypto && linux && (amd64 || arm64)

package libcrypto

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"keymill/keystore/internal/libcrypto/libcryptotest"
)

func TestMain(m *testing.M) {
	RunProof()
	if os.Getenv("KEYMILL_TEST_MDWE") != "" {
		os.Exit(withoutWritableCode())
	}
	if os.Getenv("KEYMILL_TEST_FIPS") != "" {
		c, err := Choose(context.Background(), Libcrypto, "", slog.New(slog.NewTextHandler(os.Stdout, nil)))
		fmt.Printf("%+v, %v", c.Status(), err)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// A fake is a library with faults.
type fake struct{ libcryptotest.Fake }

func newFake(t *testing.T) fake {
	t.Helper()
	return fake{libcryptotest.Compile(t)}
}

// opening has a proof of few messages. With the race detector the child would sleep for a second before it ends.
func (f fake) opening() opening {
	return opening{path: f.Path, messages: 10, patience: patience, env: []string{"GORACE=atexit_sleep_ms=0"}}
}

func (f fake) open(t *testing.T) *Library {
	t.Helper()
	l, err := f.opening().open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func systemLibrary(t testing.TB) string {
	t.Helper()
	path, err := find()
	if err != nil {
		t.Fatal(err) // scripts/install-deps installs it
	}
	return path
}

// imported returns the first of the proofKeys in l.
func imported(t testing.TB, l *Library) *Key {
	t.Helper()
	keys, err := readProofKeys()
	if err != nil {
		t.Fatal(err)
	}
	k, err := l.Import(keys[0].pkcs8, &keys[0].private.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// withoutWritableCode opens the library in a process that cannot make memory executable, and returns an exit code.
func withoutWritableCode() int {
	if err := unix.Prctl(unix.PR_SET_MDWE, unix.PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0); err != nil {
		fmt.Println(err)
		return 77
	}
	if _, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_ANON|unix.MAP_PRIVATE); err == nil {
		fmt.Println("memory can be writable and executable")
		return 1
	}
	// The proof makes an import and signatures, in a child that has the same limit.
	l, err := fake{libcryptotest.Fake{Path: os.Getenv("KEYMILL_TEST_MDWE")}}.opening().open(context.Background())
	if err == nil {
		_, err = l.signKnown()
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}
