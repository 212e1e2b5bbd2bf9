package integration_test

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// allowedImports maps every package of the main module to the packages of this module that it may
// import. "*" allows all. A new package needs a row here and in docs/architecture.md.
var allowedImports = map[string][]string{
	"cmd/keymill":                                {"*"},
	"cmd/keymill/internal/compact":               {"*"},
	"cmd/keymill/internal/config":                {"*"},
	"cmd/keymill/internal/serve":                 {"*"},
	"cmd/keymill/internal/openstore":             {"cmd/keymill/internal/config", "cmd/keymill/internal/namedfile", "cmd/keymill/internal/terminal", "issuer/api", "issuer/refusal", "storage", "storage/backup", "storage/bolt", "storage/moved", "storage/nodes", "storage/optimistic", "storage/postgres"},
	"cmd/keymill/internal/datadir":               {"cmd/keymill/internal/config", "cmd/keymill/internal/namedfile", "cmd/keymill/internal/terminal", "cmd/keymill/internal/trialca"},
	"cmd/keymill/internal/diagnose":              {"*"},
	"cmd/keymill/internal/auditlines":            {"cmd/keymill/internal/namedfile", "cmd/keymill/internal/terminal", "issuer/api", "storage", "storage/audit", "storage/durable"},
	"cmd/keymill/internal/auditlog":              {"*"},
	"cmd/keymill/internal/adminapi":              {"*"},
	"cmd/keymill/internal/adminapi/adminapitest": {"cmd/keymill/internal/adminapi"},
	"cmd/keymill/internal/claimflag":             {"cmd/keymill/internal/namedfile", "cmd/keymill/internal/terminal", "issuer/api"},
	"cmd/keymill/internal/commandline":           {"cmd/keymill/internal/terminal"},
	"cmd/keymill/internal/completion":            {"cmd/keymill/internal/adminapi", "cmd/keymill/internal/terminal", "issuer/api", "keystore"},
	"cmd/keymill/internal/console":               {"cmd/keymill/internal/adminapi", "cmd/keymill/internal/console/peer", "cmd/keymill/internal/console/plot", "cmd/keymill/internal/console/timeline", "cmd/keymill/internal/terminal", "issuer/adminscope", "issuer/api", "issuer/refusal", "storage/audit"},
	"cmd/keymill/internal/console/peer":          {},
	"cmd/keymill/internal/console/plot":          {"issuer/api"},
	"cmd/keymill/internal/console/timeline":      {"issuer/api"},
	"cmd/keymill/internal/remote":                {"*"},
	"cmd/keymill/internal/apply":                 {"cmd/keymill/internal/config", "cmd/keymill/internal/namedfile", "cmd/keymill/internal/terminal", "issuer/adminscope", "issuer/api", "issuer/profile", "issuer/refusal", "issuer/secret", "issuer/verifiers", "jwks"},
	"cmd/keymill/internal/userimport":            {"*"},
	"cmd/keymill/internal/nodetable":             {"cmd/keymill/internal/terminal", "issuer/api"},
	"cmd/keymill/internal/sessiontable":          {"cmd/keymill/internal/adminapi", "cmd/keymill/internal/terminal", "issuer/api"},
	"cmd/keymill/internal/trialca":               {"cmd/keymill/internal/namedfile", "cmd/keymill/internal/terminal", "storage/durable"},
	"cmd/keymill/internal/tokenrequest":          {"cmd/keymill/internal/healthcheck", "cmd/keymill/internal/terminal", "issuer/api", "issuer/origin", "jwks"},
	"cmd/keymill/internal/buildinfo":             {},
	"cmd/keymill/internal/keyimport":             {"cmd/keymill/internal/namedfile", "cmd/keymill/internal/terminal", "keystore"},
	"cmd/keymill/internal/keyexport":             {"cmd/keymill/internal/adminapi", "cmd/keymill/internal/healthcheck", "cmd/keymill/internal/namedfile", "cmd/keymill/internal/terminal", "issuer/api", "jwks", "storage/durable"},
	"cmd/keymill/internal/keychange":             {"cmd/keymill/internal/adminapi", "cmd/keymill/internal/terminal", "cmd/keymill/internal/verifierlist", "issuer/api"},
	"cmd/keymill/internal/verifierlist":          {"cmd/keymill/internal/terminal", "issuer/api"},
	"cmd/keymill/internal/verifiercommand":       {"cmd/keymill/internal/adminapi", "cmd/keymill/internal/commandline", "cmd/keymill/internal/keychange", "cmd/keymill/internal/terminal", "cmd/keymill/internal/verifierlist", "issuer/api"},
	"cmd/keymill/internal/backupfile":            {"*"},
	"cmd/keymill/internal/restore":               {"*"},
	"cmd/keymill/internal/migrate":               {"*"},
	"cmd/keymill/internal/django":                {"cmd/keymill/internal/terminal", "issuer/api", "issuer/refusal"},
	"cmd/keymill/internal/namedfile":             {"cmd/keymill/internal/terminal"},
	"cmd/keymill/internal/manual":                {"cmd/keymill/internal/terminal"},
	"cmd/keymill/internal/terminal":              {},
	"cmd/keymill/internal/systemd":               {"cmd/keymill/internal/terminal"},
	"cmd/keymill/internal/collector":             {},
	"cmd/keymill/internal/connections":           {},
	"cmd/keymill/internal/healthcheck":           {"cmd/keymill/internal/adminapi", "cmd/keymill/internal/config", "cmd/keymill/internal/terminal", "issuer/api", "issuer/origin"},
	"cmd/keymill/internal/tlsfiles":              {"cmd/keymill/internal/config", "cmd/keymill/internal/terminal", "issuer/api"},
	"cmd/keymill/internal/tlsfiles/tlstest":      {},
	"cmd/keymill/internal/unixsocket":            {"cmd/keymill/internal/namedfile", "cmd/keymill/internal/terminal"},
	"cmd/keymill/internal/terminal/terminaltest": {},
	"issuer/endpoint": {
		"issuer", "issuer/address", "issuer/applied", "issuer/outage", "issuer/refusal", "issuer/api", "issuer/origin", "issuer/endpoint/activity", "issuer/endpoint/admin", "issuer/endpoint/admin/access", "issuer/endpoint/challenge", "issuer/endpoint/forwardauth", "issuer/endpoint/keyset", "issuer/endpoint/limit", "issuer/endpoint/metrics",
		"issuer/endpoint/mount", "issuer/endpoint/readiness", "issuer/endpoint/requestid", "issuer/endpoint/site", "issuer/verifiers", "keystore", "jwks",
	},
	"issuer/endpoint/admin": {
		"issuer", "issuer/adminscope", "issuer/applied", "issuer/refusal", "issuer/api", "issuer/endpoint/admin/access", "issuer/endpoint/limit", "issuer/endpoint/site", "issuer/profile", "issuer/verifiers", "keystore", "jwks", "storage",
	},
	"issuer/endpoint/activity":     {"issuer/api"},
	"issuer/endpoint/admin/access": {"issuer", "issuer/adminscope", "issuer/endpoint/challenge", "issuer/endpoint/limit", "issuer/refusal"},
	"issuer/endpoint/challenge":    {"issuer/refusal"},
	"issuer/endpoint/forwardauth":  {"issuer", "issuer/accesstoken", "issuer/adminscope", "issuer/endpoint/challenge", "issuer/refusal", "jwks"},
	"issuer/endpoint/limit":        {"issuer", "issuer/address", "issuer/refusal", "issuer/api", "keystore", "jwks"},
	"issuer/endpoint/keyset":       {"issuer/verifiers", "jwks", "keystore"},
	"issuer/endpoint/nodelist":     {"issuer/api", "storage", "storage/nodes"},
	"issuer/endpoint/readiness":    {"issuer", "issuer/endpoint/keyset", "keystore", "storage"},
	"issuer/endpoint/requestid":    {},
	"issuer/endpoint/metrics":      {},
	"issuer/endpoint/mount":        {},
	"issuer/endpoint/site":         {"issuer/origin"},
	"issuer": {
		"issuer/accesstoken", "issuer/adminscope", "issuer/address", "issuer/applied", "issuer/audience", "issuer/claim", "issuer/client", "issuer/due", "issuer/epoch", "issuer/gone", "issuer/loginname", "issuer/loginterms", "issuer/names", "issuer/object", "issuer/profile", "issuer/record", "issuer/refreshtoken", "issuer/refusal", "issuer/scope", "issuer/secret", "issuer/password", "issuer/outbox", "issuer/api",
		"issuer/origin", "issuer/pause", "issuer/retry", "issuer/sessionlist", "issuer/tally",
		"issuer/unblocked", "issuer/username", "keystore", "jwks", "storage", "storage/audit",
	},
	"issuer/accesstoken":            {"issuer/record", "issuer/refusal", "jwks", "keystore", "storage"},
	"issuer/address":                {},
	"issuer/adminscope":             {"issuer/api", "issuer/refusal"},
	"issuer/applied":                {"issuer/api", "issuer/record", "issuer/refusal", "storage", "storage/audit"},
	"issuer/audience":               {"issuer/adminscope", "issuer/api", "issuer/claim", "issuer/names", "issuer/profile", "issuer/record", "issuer/refusal", "issuer/scope", "jwks", "keystore"},
	"issuer/claim":                  {"issuer/object", "issuer/refusal"},
	"issuer/client":                 {"issuer/adminscope", "issuer/api", "issuer/claim", "issuer/loginterms", "issuer/names", "issuer/origin", "issuer/record", "issuer/refusal", "issuer/scope", "issuer/secret"},
	"issuer/object":                 {},
	"issuer/pause":                  {},
	"issuer/unblocked":              {"issuer/record", "storage"},
	"issuer/due":                    {"issuer/accesstoken", "issuer/names", "issuer/record", "issuer/tally", "storage"},
	"issuer/epoch":                  {"issuer/outbox", "issuer/record", "storage"},
	"issuer/gone":                   {"issuer/audience", "issuer/due", "issuer/epoch", "issuer/record", "storage"},
	"issuer/loginname":              {"issuer/names", "issuer/record", "issuer/refusal", "issuer/username", "storage", "storage/audit"},
	"issuer/loginterms":             {"issuer/names", "issuer/record", "issuer/scope", "storage"},
	"issuer/names":                  {},
	"issuer/profile":                {"issuer/refusal", "jwks"},
	"issuer/record":                 {"storage"},
	"issuer/refreshtoken":           {"issuer/address", "issuer/record", "issuer/refusal", "keystore", "storage"},
	"issuer/scope":                  {"issuer/record", "issuer/refusal", "jwks"},
	"issuer/sessionlist":            {"issuer/record", "issuer/tally", "storage"},
	"issuer/secret":                 {"issuer/record", "issuer/refusal"},
	"issuer/refusal":                {},
	"issuer/retry":                  {"issuer/record"},
	"issuer/password":               {"issuer/record", "issuer/refusal", "storage"},
	"issuer/outbox":                 {"issuer/record", "issuer/refusal", "storage", "storage/audit"},
	"issuer/api":                    {"issuer/refusal", "storage/audit"},
	"issuer/outage":                 {"issuer/record", "keystore", "storage"},
	"issuer/origin":                 {},
	"issuer/tally":                  {"storage", "storage/audit"},
	"issuer/username":               {"issuer/refusal"},
	"issuer/webhook":                {"issuer/refusal", "issuer/outbox"},
	"issuer/verifiers":              {"issuer/api", "issuer/applied", "issuer/outbox", "issuer/record", "issuer/refusal", "jwks", "keystore", "storage", "storage/audit"},
	"keystore":                      {"keystore/internal/cert", "keystore/internal/clock", "keystore/internal/keyfile", "keystore/internal/keyring", "keystore/internal/keytype", "keystore/internal/libcrypto", "keystore/internal/masterkey", "keystore/internal/revoked", "keystore/internal/schedule", "keystore/internal/signing", "keystore/internal/vault", "storage", "storage/audit", "storage/nodes", "storage/sealed"},
	"keystore/randomness":           {},
	"keystore/internal/cert":        {"storage"},
	"keystore/internal/clock":       {},
	"keystore/internal/keyfile":     {"keystore/randomness"},
	"keystore/internal/keytype":     {},
	"keystore/internal/libcrypto":   {},
	"keystore/internal/masterkey":   {"keystore/internal/keyring", "keystore/internal/vault", "storage", "storage/audit", "storage/sealed"},
	"keystore/internal/revoked":     {"storage", "storage/durable"},
	"keystore/internal/signing":     {},
	"keystore/internal/vault":       {"storage"},
	"jwks":                          {"jwks/internal/strictjson"},
	"jwks/internal/strictjson":      {},
	"storage":                       {},
	"storage/backup":                {"storage", "storage/durable"},
	"storage/bolt":                  {"storage", "storage/durable"},
	"storage/durable":               {},
	"storage/sealed":                {"storage", "storage/durable"},
	"storage/audit":                 {"storage"},
	"storage/moved":                 {"storage"},
	"storage/nodes":                 {"storage"},
	"storage/storagetest":           {"storage"},
	"storage/optimistic":            {"storage"},
	"storage/postgres":              {"storage", "storage/optimistic"},
	"storage/postgres/postgrestest": {"integration_test/freeport"},
	"storage/etcd":                  {"storage"},

	"keystore/internal/keyring":  {"keystore/internal/vault", "keystore/randomness", "storage", "storage/sealed"},
	"keystore/internal/schedule": {"keystore/internal/keytype"},

	"keystore/internal/libcrypto/libcryptotest": {},

	"storage/optimistic/enginetest": {"storage", "storage/optimistic"},

	// Packages of the tests. No package of the product has them in its row.
	"integration_test":          {},
	"integration_test/counts":   {},
	"integration_test/freeport": {},
	"integration_test/metrics":  {},
	"integration_test/pages":    {},
	"integration_test/server":   {"integration_test/freeport"},
	"integration_test/crash":    {"jwks", "integration_test/counts", "integration_test/server"},
}

// libraryOwners maps a library, with everything below its path, to the packages that may import it.
// "storage/*" means storage and all packages below it.
var libraryOwners = map[string][]string{
	"go.etcd.io":                          {"storage/*"},
	"github.com/jackc":                    {"storage/*"},
	"database/sql":                        {"storage/*"},
	"github.com/go-jose":                  {"keystore/internal/keyfile", "keystore/internal/keytype", "jwks"},
	"github.com/ebitengine/purego":        {"keystore/internal/libcrypto"},
	"github.com/prometheus":               {"issuer/endpoint/metrics"},
	"github.com/julienschmidt/httprouter": {"issuer/endpoint"},
	"github.com/spf13":                    {"cmd/keymill", "cmd/keymill/internal/apply", "cmd/keymill/internal/commandline", "cmd/keymill/internal/completion", "cmd/keymill/internal/console", "cmd/keymill/internal/manual", "cmd/keymill/internal/migrate", "cmd/keymill/internal/verifiercommand"},
	"github.com/goccy/go-yaml":            {"cmd/keymill/*"},
	"filippo.io/age":                      {"cmd/keymill/*"},
	"golang.org/x/net":                    {"issuer/endpoint/site"},
	"html/template":                       {"cmd/keymill/internal/console", "issuer/endpoint/*"},
	"net/http":                            {"cmd/keymill/*", "issuer/endpoint/*", "issuer/webhook", "jwks", "integration_test/*"},
}

// topLevel lists the allowed entries of the root of the repository.
var topLevel = []string{
	".ci", ".gitignore", "CHANGELOG.md", "LICENSE", "README.md", "cmd", "docs", "go.mod", "go.sum",
	"integration_test", "issuer", "jwks", "keystore", "scripts", "storage",
}

// A listedPackage is a package as go list prints it.
type listedPackage struct {
	ImportPath string
	Export     string
	Imports    []string // without those of test files
}

func TestPackagesImportOnlyWhatIsAllowed(t *testing.T) {
	found := 0
	// The tag adds files of one package. No package leaves out a file because of it but the stand-in of these.
	for _, p := range list(t, "-tags=libcrypto", "./...") {
		name := strings.TrimPrefix(p.ImportPath, "keymill/")
		allowed, known := allowedImports[name]
		if !known {
			t.Errorf("package %s has no row in the table of allowed imports", name)
			continue
		}
		found++
		for _, imported := range p.Imports {
			if own, ok := strings.CutPrefix(imported, "keymill/"); ok {
				if !within(own, allowed) {
					t.Errorf("%s imports %s; allowed: %v", name, own, allowed)
				}
				continue
			}
			if owners := ownersOf(imported); owners != nil && !within(name, owners) {
				t.Errorf("%s imports %s, which only %v may import", name, imported, owners)
			}
		}
	}
	if found < 8 {
		t.Errorf("read %d packages only: the test misses most of the module", found)
	}
}

// TestTheIssuerNeverImportsItsWebhooks checks the table itself: it must not allow a package in
// issuer to import issuer/webhook. The issuer writes events to issuer/outbox, and only the binary
// knows who delivers them.
func TestTheIssuerNeverImportsItsWebhooks(t *testing.T) {
	for name, allowed := range allowedImports {
		if !strings.HasPrefix(name, "cmd/") && within("issuer/webhook", allowed) {
			t.Errorf("the table allows %s to import issuer/webhook", name)
		}
	}
}

// TestKeystoreDoesNotLinkHTTP checks indirect imports too. A program that only signs contains no
// HTTP code.
func TestKeystoreDoesNotLinkHTTP(t *testing.T) {
	for _, p := range list(t, "-deps", "keymill/keystore") {
		if p.ImportPath == "net/http" || p.ImportPath == "html/template" {
			t.Errorf("keystore depends on %s", p.ImportPath)
		}
	}
}

// TestOnlyTheTagLinksLibcrypto: purego makes a program need the loader of glibc, and the usual build needs no loader.
func TestOnlyTheTagLinksLibcrypto(t *testing.T) {
	links := func(args ...string) bool {
		return slices.ContainsFunc(list(t, append(args, "-deps", "keymill/cmd/keymill")...), func(p listedPackage) bool {
			return strings.HasPrefix(p.ImportPath, "github.com/ebitengine/")
		})
	}
	if links() {
		t.Error("the build without the tag libcrypto links purego")
	}
	if !links("-tags=libcrypto") {
		t.Error("the build with the tag libcrypto does not link purego: the test looks for the wrong package")
	}
}

func TestTheTopLevelHasNoOtherEntries(t *testing.T) {
	// Only what git would add: build results and data do not count.
	cmd := exec.Command("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z")
	cmd.Dir = ".."
	out, err := cmd.Output()
	var names []string
	if err == nil {
		for name := range strings.SplitSeq(strings.Trim(string(out), "\x00"), "\x00") {
			top, _, _ := strings.Cut(name, "/")
			names = append(names, top)
		}
	} else { // no git repository: an unpacked archive
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
			t.Errorf("%s is not in the list of allowed entries", name)
		}
	}
	for _, want := range []string{"cmd", "go.mod", "integration_test", "issuer", "jwks", "keystore", "storage"} {
		if !slices.Contains(names, want) {
			t.Errorf("%s is missing", want)
		}
	}
}

// within reports whether a package is in the list. In the list "x/*" means x and all below it, and
// "*" means every package.
func within(name string, list []string) bool {
	return slices.ContainsFunc(list, func(entry string) bool {
		below, tree := strings.CutSuffix(entry, "/*")
		return entry == "*" || entry == name || tree && (name == below || strings.HasPrefix(name, below+"/"))
	})
}

// ownersOf returns the most specific row of libraryOwners, nil if every package may import it.
func ownersOf(imported string) []string {
	for p := imported; p != "." && p != "/"; p = path.Dir(p) {
		if owners, ok := libraryOwners[p]; ok {
			return owners
		}
	}
	return nil
}

// list runs `go list -json` in the root of the module.
func list(t *testing.T, args ...string) []listedPackage {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Export,Imports"}, args...)...)
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "GOWORK=off")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var packages []listedPackage
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listedPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

// TestTestsReadNoVariablesOfTheRun: a test that loads a configuration in its own process would read KEYMILL_TIER and
// others of a whole run as settings.
func TestTestsReadNoVariablesOfTheRun(t *testing.T) {
	loads := 0
	for dir, text := range testFiles(t, "../cmd/keymill") {
		if !strings.Contains(text, "config.Load(") {
			continue
		}
		loads++
		if !strings.Contains(text, "terminaltest.ClearEnvironment(") && !strings.Contains(text, "os.Unsetenv(") {
			t.Errorf("the tests of %s call config.Load, and neither terminaltest.ClearEnvironment nor os.Unsetenv", dir)
		}
	}
	if loads < 4 {
		t.Errorf("found %d packages whose tests load a configuration", loads)
	}
}

// testFiles returns the text of all test files of each directory below root.
func testFiles(t *testing.T, root string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		found[filepath.Dir(path)] += string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
