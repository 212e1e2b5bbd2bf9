package manual

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// tree returns a command with two below it, one of them hidden, and the command under test.
func tree(out *strings.Builder) *cobra.Command {
	run := func(*cobra.Command, []string) {}
	root := &cobra.Command{Use: "mill", Short: "Grind", Long: "Grind grain.", Run: run, SilenceErrors: true, SilenceUsage: true}
	one := &cobra.Command{
		Use: "one-two FILE", Short: "Read -", Run: run, Example: "  mill one-two 'a\\b'",
		Long: "First.\n.dot begins a line\n\n  kept   as it is\n    deeper\n'end",
	}
	one.Flags().StringP("name", "n", "", "the `NAME` of it")
	one.Flags().Bool("secret", false, "")
	_ = one.Flags().MarkHidden("secret")
	root.AddCommand(one, &cobra.Command{Use: "internal", Short: "Not shown", Hidden: true, Run: run}, Command("1.2.3", "2026-11-28T09:14:02Z"))
	root.SetOut(out)
	return root
}

func printed(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out strings.Builder
	root := tree(&out)
	root.SetArgs(append([]string{"manual"}, args...))
	err := root.Execute()
	return out.String(), err
}

// TestEveryCommandThatIsShownHasAPage.
func TestEveryCommandThatIsShownHasAPage(t *testing.T) {
	out, err := printed(t, "--list")
	if names := strings.Fields(out); err != nil || names[0] != "mill" || names[len(names)-1] != "mill-one-two" || strings.Contains(out, "internal") || strings.Contains(out, "manual") {
		t.Errorf("%v: %q", err, out)
	}
	out, err = printed(t)
	if err != nil || !strings.HasPrefix(out, ".TH MILL 1 \"2026-11-28\" \"keymill 1.2.3\" Keymill\n") || !strings.Contains(out, ".B mill one\\-two\nRead \\-\n") {
		t.Errorf("%v: %s", err, out)
	}
	if out, err = printed(t, "mill-internal"); err == nil || err.Error() != `there is no page "mill-internal"` || out != "" {
		t.Errorf("%v: %s", err, out)
	}
}

// TestTextIsNotReadAsRoff: hyphens can be copied, backslashes stay, no line of a text is a request,
// and indented lines keep their form.
func TestTextIsNotReadAsRoff(t *testing.T) {
	out, err := printed(t, "mill-one-two")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		".SH NAME\nmill\\-one\\-two \\- Read \\-\n",
		".SH SYNOPSIS\n.B mill one\\-two FILE [flags]\n",
		"First.\n\\&.dot begins a line\n.sp\n.nf\n  kept   as it is\n    deeper\n.fi\n\\&'end\n",
		".TP\n.B \\-n, \\-\\-name NAME\nthe NAME of it\n",
		".SH EXAMPLES\n.nf\n  mill one\\-two 'a\\eb'\n.fi\n",
		".SH SEE ALSO\n.BR mill (1)\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing:\n%s", want, out)
		}
	}
	if strings.Contains(out, "secret") {
		t.Errorf("a hidden flag is shown:\n%s", out)
	}
}
