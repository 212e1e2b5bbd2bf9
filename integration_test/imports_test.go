package integration_test

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

// rooms maps a package to the packages of this module that it may import. A room
// that is not listed may not exist.
var rooms = map[string][]string{
	"cmd/keymill":                   {"*"},
	"cmd/keymill/internal/config":   {"*"},
	"cmd/keymill/internal/serve":    {"*"},
	"cmd/keymill/internal/diagnose": {"*"},
	"cmd/keymill/internal/terminal": {},
	"issuer/endpoint": {
		"issuer", "issuer/refusal", "issuer/api", "issuer/endpoint/admin", "issuer/endpoint/limit", "keystore", "jwks",
	},
	"issuer/endpoint/admin": {"issuer", "issuer/refusal", "issuer/api", "issuer/endpoint/limit", "keystore", "jwks"},
	"issuer/endpoint/limit": {"issuer", "issuer/refusal", "issuer/api", "keystore", "jwks"},
	"issuer": {
		"issuer/refusal", "issuer/password", "issuer/outbox", "issuer/api", "keystore", "jwks", "storage", "storage/audit",
	},
	"issuer/refusal":      {},
	"issuer/password":     {"issuer/refusal", "storage"},
	"issuer/outbox":       {"issuer/refusal", "storage", "storage/audit"},
	"issuer/api":          {"issuer/refusal", "storage/audit"},
	"issuer/webhook":      {"issuer/refusal", "issuer/outbox"},
	"keystore":            {"storage", "storage/audit"},
	"jwks":                {},
	"storage":             {},
	"storage/bolt":        {"storage"},
	"storage/audit":       {"storage"},
	"storage/storagetest": {"storage"},
	"storage/postgres":    {"storage"},
	"storage/etcd":        {"storage"},

	// The tests' own rooms; the product never imports them.
	"integration_test":         {},
	"integration_test/counts":  {},
	"integration_test/metrics": {},
	"integration_test/pages":   {},
	"integration_test/server":  {},
	"integration_test/crash":   {"jwks", "integration_test/counts", "integration_test/server"},
}

// keepers maps a library (and everything below its path) to the rooms that may
// import it. "storage/*" stands for storage and all rooms in it.
var keepers = map[string][]string{
	"go.etcd.io":                          {"storage/*"},
	"github.com/jackc":                    {"storage/*"},
	"database/sql":                        {"storage/*"},
	"github.com/go-jose":                  {"keystore", "jwks"},
	"github.com/prometheus":               {"issuer/endpoint/*"},
	"github.com/julienschmidt/httprouter": {"issuer/endpoint"},
	"github.com/spf13":                    {"cmd/keymill"},
	"github.com/goccy/go-yaml":            {"cmd/keymill/*"},
	"html/template":                       {"issuer/endpoint/*"},
	"net/http":                            {"cmd/keymill/*", "issuer/endpoint/*", "issuer/webhook", "jwks", "integration_test/*"},
}

// topLevel is the table of contents; nothing joins it without a reason.
var topLevel = []string{
	".ci", ".gitignore", "CHANGELOG.md", "LICENSE", "README.md", "cmd", "docs", "go.mod", "go.sum",
	"integration_test", "issuer", "jwks", "keystore", "scripts", "storage",
}

type listed struct {
	ImportPath string
	Export     string
	Imports    []string // of the files that are not tests
}

func TestNoRoomImportsWhatTheHouseForbids(t *testing.T) {
	found := 0
	for _, p := range list(t, "./...") {
		room := strings.TrimPrefix(p.ImportPath, "keymill/")
		allowed, known := rooms[room]
		if !known {
			t.Errorf("%s is not a room of the house", room)
			continue
		}
		found++
		for _, imported := range p.Imports {
			if own, ok := strings.CutPrefix(imported, "keymill/"); ok {
				if !within(own, allowed) {
					t.Errorf("%s imports %s; allowed: %v", room, own, allowed)
				}
				continue
			}
			if k := keepersOf(imported); k != nil && !within(room, k) {
				t.Errorf("%s imports %s, which belongs to %v", room, imported, k)
			}
		}
	}
	if found < 8 {
		t.Errorf("read %d rooms: the test looks at too little", found)
	}
}

// TestKeysLiveFarFromTheNetwork also follows what keystore imports indirectly: a
// process that only signs links no HTTP.
func TestKeysLiveFarFromTheNetwork(t *testing.T) {
	for _, p := range list(t, "-deps", "keymill/keystore") {
		if p.ImportPath == "net/http" || p.ImportPath == "html/template" {
			t.Errorf("keystore depends on %s", p.ImportPath)
		}
	}
}

func TestTheTopLevelIsATableOfContents(t *testing.T) {
	// What git would keep: build results and data beside the sources are no rooms.
	cmd := exec.Command("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z")
	cmd.Dir = ".."
	out, err := cmd.Output()
	var names []string
	if err == nil {
		for name := range strings.SplitSeq(strings.Trim(string(out), "\x00"), "\x00") {
			top, _, _ := strings.Cut(name, "/")
			names = append(names, top)
		}
	} else { // an unpacked archive
		entries, err := os.ReadDir("..")
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if !slices.Contains(topLevel, name) {
			t.Errorf("%s is not in the table of contents", name)
		}
	}
	for _, want := range []string{"cmd", "go.mod", "integration_test", "issuer", "jwks", "keystore", "storage"} {
		if !slices.Contains(names, want) {
			t.Errorf("%s is missing", want)
		}
	}
}

// within says whether a room is in a list, where "x/*" covers x and all below it.
func within(room string, rooms []string) bool {
	return slices.ContainsFunc(rooms, func(r string) bool {
		below, tree := strings.CutSuffix(r, "/*")
		return r == "*" || r == room || tree && (room == below || strings.HasPrefix(room, below+"/"))
	})
}

// keepersOf finds the most specific row of keepers, nil if there is none.
func keepersOf(imported string) []string {
	for p := imported; p != "." && p != "/"; p = path.Dir(p) {
		if k, ok := keepers[p]; ok {
			return k
		}
	}
	return nil
}

// list is `go list -json` in the root of the module.
func list(t *testing.T, args ...string) []listed {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Export,Imports"}, args...)...)
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "GOWORK=off")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var packages []listed
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}
