package config

import (
	"strings"
	"testing"

	"keymill/cmd/keymill/internal/terminal/terminaltest"
)

// TestADatabaseIDIsReadAsItIsWritten: YAML takes an id of digits for a number, and one with an e among
// the digits for a number as well.
func TestADatabaseIDIsReadAsItIsWritten(t *testing.T) {
	terminaltest.ClearEnvironment(t)
	for text, want := range map[string]string{
		"2f8a6c0de1b94f75a3c8d2e6b7094a1c":        "2f8a6c0de1b94f75a3c8d2e6b7094a1c",
		"\"2f8a6c0de1b94f75a3c8d2e6b7094a1c\"":    "2f8a6c0de1b94f75a3c8d2e6b7094a1c",
		"00123456789012345678901234567890":        "00123456789012345678901234567890",
		"98765432109876543210987654321098":        "98765432109876543210987654321098",
		"123456789012345678901234567890e1":        "123456789012345678901234567890e1",
		"0e123456789012345678901234567890 # ours": "0e123456789012345678901234567890",
	} {
		c, err := Load(writeFile(t, "keymill.yaml", "database_id: "+text+"\n"), nil, false)
		if err == nil {
			err = c.CheckStore()
		}
		if err != nil || c.DatabaseID != want {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, text := range []string{"\"\"", "2f8a6c0d", "2F8A6C0DE1B94F75A3C8D2E6B7094A1C", "2f8a6c0d-e1b9-4f75-a3c8-d2e6b7094a1c",
		"zf8a6c0de1b94f75a3c8d2e6b7094a1c", "2f8a6c0de1b94f75a3c8d2e6b7094a1c00"} {
		c, err := Load(writeFile(t, "keymill.yaml", "database_id: "+text+"\n"), nil, false)
		if err == nil {
			err = c.CheckStore()
		}
		if err == nil || !strings.Contains(err.Error(), ":1: database_id: ") || !strings.Contains(err.Error(), "is not a database id") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestTheInitCommandNamesWhereTheStoreComesFrom, so that it can be pasted.
func TestTheInitCommandNamesWhereTheStoreComesFrom(t *testing.T) {
	terminaltest.ClearEnvironment(t)
	file := writeFile(t, "my keymill.yaml", "data: /var/lib/keymill\n")
	for _, tt := range []struct {
		file  string
		flags map[string]string
		want  string
	}{
		{"", nil, "keymill init"},
		{"", map[string]string{"data": "my data"}, "keymill init --data 'my data'"},
		{file, nil, "keymill init --config '" + file + "'"},
		{file, map[string]string{"data": "/srv/keymill"}, "keymill init --config '" + file + "' --data /srv/keymill"},
	} {
		c, err := Load(tt.file, tt.flags, false)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.InitCommand(); got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
}
