package integration_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"keymill/integration_test/pages"
)

// TestTheDocumentsListEveryAuditAction that the source has as a literal.
func TestTheDocumentsListEveryAuditAction(t *testing.T) {
	text, err := os.ReadFile("../docs/operate.md")
	if err != nil {
		t.Fatal(err)
	}
	literal := regexp.MustCompile(`(?:Action: |\.audit\(|\.record\()"([a-z]+\.[a-z_]+)"`)
	found := 0
	for _, dir := range []string{"../cmd", "../issuer", "../keystore", "../storage"} {
		if err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
				return err
			}
			source, err := os.ReadFile(path)
			for _, m := range literal.FindAllSubmatch(source, -1) {
				row := regexp.MustCompile("(?m)^\\|[^|\n]*`" + regexp.QuoteMeta(string(m[1])) + "`")
				if found++; !row.Match(text) {
					t.Errorf("%s writes the audit action %s, and docs/operate.md does not list it", path, m[1])
				}
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	if found < 10 {
		t.Errorf("only %d actions were found", found)
	}
	if row := regexp.MustCompile("(?m)^\\| .store\\.create.*`version`"); !row.Match(text) {
		t.Error("the row of store.create lacks its detail version")
	}
	if row := regexp.MustCompile("(?m)^\\| .issuer\\.change.*`from`"); !row.Match(text) {
		t.Error("the row of issuer.change lacks its detail from")
	}
}

// TestTheUnitInTheDocumentsIsTheOneThatIsShipped, line by line.
func TestTheUnitInTheDocumentsIsTheOneThatIsShipped(t *testing.T) {
	page, err := pages.ReadOne("..", "docs/operate.md")
	if err != nil {
		t.Fatal(err)
	}
	unit, err := os.ReadFile("../scripts/deploy/keymill.service")
	if err != nil {
		t.Fatal(err)
	}
	if block, _ := page.Find("ini", ""); block.Text != "# /etc/systemd/system/keymill.service\n"+string(unit) {
		t.Errorf("docs/operate.md has another unit than scripts/deploy/keymill.service:\n%s", block.Text)
	}
}
