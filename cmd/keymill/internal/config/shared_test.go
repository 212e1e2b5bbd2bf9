package config

import (
	"os"
	"strings"
	"testing"

	"keymill/cmd/keymill/internal/terminal/terminaltest"
)

const sharedURL = "postgres://keymill@db.example.com/keymill"

// TestASharedStoreIsCheckedBeforeAnythingIsOpened: each error names the setting and where it is written, and none has a
// password that is in the wrong place.
func TestASharedStoreIsCheckedBeforeAnythingIsOpened(t *testing.T) {
	terminaltest.ClearEnvironment(t)
	for _, tt := range []struct {
		name, file string
		dev        bool
		want       []string // in the error; none if it is accepted
	}{
		{name: "one host", file: "store: " + sharedURL},
		{name: "several hosts", file: "store: postgres://keymill@a.example:5433,b.example/keymill?sslmode=verify-full"},
		{name: "with its password file", file: "store: " + sharedURL + "\nstore.password_file: db.password\nnode.id: a\n"},
		{name: "with a group", file: "store: {mark_file: FILE.mark}"},
		{name: "a password", file: "store: postgres://keymill:hunter2@db.example.com/keymill", want: []string{"keymill.yaml:1: store: ", "must not contain a password"}},
		{name: "a password as a parameter", file: "store: " + sharedURL + "?password=hunter2", want: []string{"store: ", "must not have the parameter password"}},
		{name: "another engine", file: "store: mysql://keymill:hunter2@db.example.com/keymill", want: []string{"store: ", "postgres://ROLE@HOST/DATABASE"}},
		{name: "without TLS", file: "store: " + sharedURL + "?sslmode=disable", want: []string{"sslmode=verify-full"}},
		{name: "empty", file: `store: ""`, want: []string{"store: the value is empty"}},
		{name: "a bad node", file: "store: " + sharedURL + "\nnode: {id: A B}", want: []string{"keymill.yaml:2: node.id: ", `"A B"`}},
		{name: "a password for nothing", file: "store: {password_file: FILE}", want: []string{"store.password_file: ", "store is not set"}},
		{name: "a node of nothing", file: "node: {id: a}", want: []string{"node.id: ", "store is not set"}},
		{name: "keys that change too fast", file: "store: " + sharedURL + "\nkeys: {propagation: 10m}", want: []string{"keys.propagation: ", "three quarters", "10m"}},
		{name: "a trial", file: "store: " + sharedURL, dev: true, want: []string{"store: ", "--dev"}},
	} {
		path := writeFile(t, "keymill.yaml", tt.file)
		c, err := Load(path, map[string]string{"issuer": "http://127.0.0.1:8420"}, tt.dev)
		if err == nil {
			err = c.CheckShared()
		}
		if len(tt.want) == 0 && err != nil || len(tt.want) > 0 && err == nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		for _, want := range tt.want {
			if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%s: %v, want %q", tt.name, err, want)
			}
		}
	}
}

// TestThePasswordOfTheStoreCanChange in its file, while a variable is read once.
func TestThePasswordOfTheStoreCanChange(t *testing.T) {
	terminaltest.ClearEnvironment(t)
	path := writeFile(t, "password", "first\n")
	c := &Config{Store: sharedURL, StorePasswordFile: path}
	read, err := c.StorePassword()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"first", "second"} {
		if got, err := read(); err != nil || got != want {
			t.Errorf("%v, want %s", err, want)
		}
		if err := os.WriteFile(path, []byte("second"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("KEYMILL_STORE_PASSWORD", "from the variable")
	c = &Config{Store: sharedURL}
	for range 2 { // doctor asks again
		read, err := c.StorePassword()
		if err != nil || read == nil {
			t.Fatal(err)
		}
		if got, err := read(); err != nil || got != "from the variable" {
			t.Error("another password, or ", err)
		}
	}
	if read, err := (&Config{Store: sharedURL}).StorePassword(); read != nil || err != nil {
		t.Error("a password from nowhere, or ", err)
	}
	t.Setenv("KEYMILL_STORE_PASSWORD", "forgotten")
	if _, err := (&Config{}).StorePassword(); err == nil || strings.Contains(err.Error(), "forgotten") {
		t.Errorf("a password without a store: %v", err)
	}
}

// TestTheStoreIsNamedWithoutItsParameters, which can name files of keys.
func TestTheStoreIsNamedWithoutItsParameters(t *testing.T) {
	c := &Config{Data: "data", Store: sharedURL + "?sslkey=/etc/keymill/db.key"}
	if got := c.StorePlace(); got != sharedURL {
		t.Error(got)
	}
	if c.Store = ""; c.StorePlace() != "data" {
		t.Error(c.StorePlace())
	}
}
