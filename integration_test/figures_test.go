package integration_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"keymill/integration_test/pages"
)

// TestTheCapacityPageComputesRight runs the program of the page. It prints the block behind it, and with a hundred times
// as much of everything the block of the last chapter.
func TestTheCapacityPageComputesRight(t *testing.T) {
	const python = "/usr/bin/python3"
	if _, err := os.Stat(python); err != nil && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	all := readPages(t)
	n := slices.IndexFunc(all, func(p pages.Page) bool { return p.Path == filepath.Join("docs", "capacity.md") })
	if n < 0 {
		t.Fatal("there is no docs/capacity.md")
	}
	blocks := all[n].Blocks
	program := slices.IndexFunc(blocks, func(b pages.Block) bool { return b.Language == "python" })
	large := slices.IndexFunc(blocks, func(b pages.Block) bool { return b.Heading == "A hundred times the size" })
	if program < 0 || large < 0 || program+1 >= len(blocks) {
		t.Fatal("the page lacks its program or one of the outputs")
	}
	source := blocks[program].Text
	const first = "users, sessions, in_use = 1_000_000, 2_000_000, 200_000\nlifetime, logins_a_day, audit_days = 900, 500_000, 365"
	if strings.Count(source, first) != 1 {
		t.Fatalf("the program does not begin with\n%s", first)
	}
	const hundredfold = "users, sessions, in_use = 100_000_000, 200_000_000, 20_000_000\nlifetime, logins_a_day, audit_days = 900, 50_000_000, 365"
	for _, tt := range []struct {
		source string
		want   pages.Block
	}{
		{source, blocks[program+1]},
		{strings.Replace(source, first, hundredfold, 1), blocks[large]},
	} {
		cmd := exec.Command(python, "-I", "-")
		cmd.Stdin = strings.NewReader(tt.source)
		out, err := cmd.CombinedOutput()
		if err != nil || strings.TrimSpace(string(out)) != strings.TrimSpace(tt.want.Text) {
			t.Errorf("%s:%d has\n%s\nand the program prints\n%s%v", tt.want.Page, tt.want.Line, tt.want.Text, out, err)
		}
	}
}
