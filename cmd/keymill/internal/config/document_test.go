package config

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// TestTheDocumentHasEverySetting compares the table of docs/settings.md with the settings:
// each has a row with its key, variable and defaults, and there is no other row.
func TestTheDocumentHasEverySetting(t *testing.T) {
	rows := settingRows(t)
	for _, s := range Settings() {
		cells, found := rows[s.Key]
		if !found {
			t.Errorf("docs/settings.md has no row for %s", s.Key)
			continue
		}
		delete(rows, s.Key)
		if want := "`" + s.Variable() + "`"; cells[1] != want {
			t.Errorf("docs/settings.md: the variable of %s is %s, want %s", s.Key, cells[1], want)
		}
		if !documentsDefault(cells[2], s.Default) {
			t.Errorf("docs/settings.md: the default of %s is %s, want %q", s.Key, cells[2], s.Default)
		}
		if !documentsDefault(cells[3], s.DevDefault) {
			t.Errorf("docs/settings.md: the default of %s with --dev is %s, want %q", s.Key, cells[3], s.DevDefault)
		}
	}
	for key := range rows {
		t.Errorf("docs/settings.md has a row for %s, which is no setting", key)
	}
}

// documentsDefault reports whether a cell says the default as code, or says in words why
// there is none.
func documentsDefault(cell, value string) bool {
	if value == "" {
		return cell != "" && !strings.HasPrefix(cell, "`")
	}
	return cell == "`"+value+"`"
}

// settingRows reads the cells of the table, by the key in the first cell.
func settingRows(t *testing.T) map[string][]string {
	t.Helper()
	document, err := os.ReadFile("../../../../docs/settings.md")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(document), "\n")
	begin := slices.IndexFunc(lines, func(line string) bool { return strings.HasPrefix(line, "| key | variable | default |") })
	if begin < 0 {
		t.Fatal("docs/settings.md has no table of keys, variables and defaults")
	}
	rows := map[string][]string{}
	for _, line := range lines[min(begin+2, len(lines)):] {
		if !strings.HasPrefix(line, "|") {
			break
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		key := strings.Trim(cells[0], "`")
		if len(cells) < 4 || rows[key] != nil || cells[0] != "`"+key+"`" {
			t.Fatalf("docs/settings.md: row %q needs a new key as code and at least four cells", line)
		}
		rows[key] = cells
	}
	return rows
}
