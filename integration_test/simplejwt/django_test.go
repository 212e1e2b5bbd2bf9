package simplejwt

import (
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"keymill/integration_test/server"
)

// TestMain runs more rows at a time than there are processors, because a refused login sleeps for
// most of its time.
func TestMain(m *testing.M) {
	flag.Parse()
	flag.Set("test.parallel", "8")
	server.Main(m)
}

// python is the system's, with Debian's packages.
const python = "/usr/bin/python3"

// A user is a row of Django's user table.
type user struct {
	Name     string `json:"username"`
	Password string `json:"password"` // "" makes it unusable
	Hasher   string `json:"hasher"`
	Inactive bool   `json:"inactive"`
}

// users are in both user tables, with the ids 1, 2, 3 …
var users = []user{
	{Name: "alice", Password: "alice tells no one", Hasher: "pbkdf2_sha256"},
	{Name: "Zoë", Password: "ключ под ковриком", Hasher: "argon2"},
	{Name: "Carol", Password: "carol tells no one", Hasher: "bcrypt_sha256"},
	{Name: "dora", Password: "dora tells no one", Hasher: "pbkdf2_sha256", Inactive: true},
	{Name: "eve"},
	{Name: "5550100", Password: "20071969", Hasher: "pbkdf2_sha256"},
	{Name: "frida", Password: "frida tells no one", Hasher: "pbkdf2_sha256"},
	{Name: "gus", Password: "gus tells no one", Hasher: "pbkdf2_sha256"},
	{Name: "hedy", Password: "hedy tells no one", Hasher: "pbkdf2_sha256"},
	{Name: "ines", Password: "ines tells no one", Hasher: "pbkdf2_sha256"},
	{Name: "jonas", Password: "jonas tells no one", Hasher: "pbkdf2_sha256"},
	// Django's own forms keep the white space of a password.
	{Name: "kim", Password: "\u00a0kim tells no one ", Hasher: "pbkdf2_sha256"},
}

func userNamed(name string) user {
	for _, p := range users {
		if p.Name == name {
			return p
		}
	}
	panic("no user is called " + name)
}

// A project is django/project.py with a database of its own.
type project struct {
	database string
	model    string // of its users
}

// newProject creates the database and its users.
func newProject(t *testing.T) *project {
	t.Helper()
	return newProjectWith(t, "auth.User", users)
}

func newProjectWith(t *testing.T, model string, users []user) *project {
	t.Helper()
	needs(t, "rest_framework_simplejwt", "cryptography", "argon2", "bcrypt")
	p := &project{filepath.Join(t.TempDir(), "db.sqlite3"), model}
	list, err := json.Marshal(users)
	if err != nil {
		t.Fatal(err)
	}
	p.run(t, []string{"PROJECT_PEOPLE=" + string(list)}, "prepare")
	return p
}

// needs skips a test without Debian's packages. If CI is set it fails the test, so that no test is
// skipped there without notice.
func needs(t *testing.T, modules ...string) {
	t.Helper()
	out, err := exec.Command(python, "-I", "-c", "import "+strings.Join(modules, ", ")).CombinedOutput()
	if err == nil {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("%v: %s", err, out)
	}
	t.Skipf("%v; scripts/install-deps installs what is missing\n%s", err, out)
}

// version returns the version of simplejwt. The endpoint gives the answers of version 5.2.
func version(t *testing.T) string {
	t.Helper()
	const ask = "from importlib.metadata import version; print(version('djangorestframework-simplejwt'))"
	out, err := exec.Command(python, "-I", "-c", ask).Output()
	found := strings.TrimSpace(string(out))
	if err != nil || !strings.HasPrefix(found, "5.2.") {
		t.Errorf("the version of simplejwt is %q (%v), want 5.2", found, err)
	}
	return found
}

func (p *project) command(environment []string, args ...string) *exec.Cmd {
	cmd := exec.Command(python, append([]string{"-I", "-B", "project.py"}, args...)...)
	cmd.Dir = "django"
	cmd.Env = append(append(server.Environment(), "PROJECT_DATABASE="+p.database, "PROJECT_MODEL="+p.model), environment...)
	return cmd
}

// run runs one command of the project and returns its output.
func (p *project) run(t *testing.T, environment []string, args ...string) []byte {
	t.Helper()
	cmd := p.command(environment, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("project.py %s: %v\n%s", strings.Join(args, " "), err, &errs)
	}
	return out.Bytes()
}

// serve runs the project until the test ends, and returns its address.
func (p *project) serve(t *testing.T, environment ...string) string {
	t.Helper()
	cmd := p.command(environment, "serve")
	// Django logs a warning for each answer of 400 and more, and a traceback for each 500. Some
	// rows cause these on purpose.
	cmd.Stderr = io.Discard
	return server.Serving(t, cmd)
}

// serveAPI runs the project as an API that trusts a token server.
func (p *project) serveAPI(t *testing.T, issuer, audience string, environment ...string) string {
	t.Helper()
	return p.serve(t, append(environment, "PROJECT_ISSUER="+issuer, "PROJECT_AUDIENCE="+audience)...)
}
