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

// TestMain lets more rows wait at a time than there are processors: a refused login takes
// its time, nearly all of it asleep.
func TestMain(m *testing.M) {
	flag.Parse()
	flag.Set("test.parallel", "8")
	server.Main(m)
}

// python is the system's, whose packages are Debian's.
const python = "/usr/bin/python3"

// A person is a row of Django's user table.
type person struct {
	Name     string `json:"username"`
	Password string `json:"password"` // "" makes it unusable
	Hasher   string `json:"hasher"`
	Inactive bool   `json:"inactive"`
}

// people are in both user tables, in the order of their ids: 1, 2, 3 …
var people = []person{
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
}

func who(name string) person {
	for _, p := range people {
		if p.Name == name {
			return p
		}
	}
	panic("nobody is called " + name)
}

// A project is django/project.py on a database of its own.
type project struct{ database string }

// newProject makes the database and the people in it.
func newProject(t *testing.T) *project {
	t.Helper()
	needs(t, "rest_framework_simplejwt", "cryptography", "argon2", "bcrypt")
	p := &project{filepath.Join(t.TempDir(), "db.sqlite3")}
	list, err := json.Marshal(people)
	if err != nil {
		t.Fatal(err)
	}
	p.run(t, []string{"PROJECT_PEOPLE=" + string(list)}, "prepare")
	return p
}

// needs skips a test without Debian's packages, or fails it where a skipped proof would
// pass for one.
func needs(t *testing.T, modules ...string) {
	t.Helper()
	out, err := exec.Command(python, "-I", "-c", "import "+strings.Join(modules, ", ")).CombinedOutput()
	if err == nil {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("%v: %s", err, out)
	}
	t.Skipf("%v; scripts/install-deps brings what is missing\n%s", err, out)
}

// version is that of the simplejwt that is compared with: 5.2, whose answers the door gives.
func version(t *testing.T) string {
	t.Helper()
	const ask = "from importlib.metadata import version; print(version('djangorestframework-simplejwt'))"
	out, err := exec.Command(python, "-I", "-c", ask).Output()
	found := strings.TrimSpace(string(out))
	if err != nil || !strings.HasPrefix(found, "5.2.") {
		t.Errorf("simplejwt is %q (%v), the door speaks as 5.2 does", found, err)
	}
	return found
}

func (p *project) command(environment []string, args ...string) *exec.Cmd {
	cmd := exec.Command(python, append([]string{"-I", "-B", "project.py"}, args...)...)
	cmd.Dir = "django"
	cmd.Env = append(append(server.Environment(), "PROJECT_DATABASE="+p.database), environment...)
	return cmd
}

// run does one command of the project and returns what it printed.
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

// serve runs the project until the test ends and returns its address.
func (p *project) serve(t *testing.T, environment ...string) string {
	t.Helper()
	cmd := p.command(environment, "serve")
	// Django logs a warning for each answer of 400 and more, and a traceback for a 500
	// which simplejwt owes to some rows: nothing that a reader of this test needs.
	cmd.Stderr = io.Discard
	return server.Serving(t, cmd)
}

// serveAPI runs the project as an API that trusts a token server.
func (p *project) serveAPI(t *testing.T, issuer, audience string, environment ...string) string {
	t.Helper()
	return p.serve(t, append(environment, "PROJECT_ISSUER="+issuer, "PROJECT_AUDIENCE="+audience)...)
}
