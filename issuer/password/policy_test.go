package password

import (
	"bufio"
	"compress/gzip"
	"errors"
	"os"
	"strings"
	"testing"

	"keymill/issuer/refusal"
)

// R96.
func TestAPasswordThatIsOnlyLongIsRefused(t *testing.T) {
	for _, tt := range []struct {
		password, name string
		want           string // part of the hint; "" if accepted
	}{
		{"correct horse battery staple", "alice", ""},
		{"correcthorsebat", "alice", ""}, // 15, no digit, no capital
		{"829304715562093", "alice", ""}, // no composition rules either way
		{"ééééàààèèêôûïüö", "alice", ""}, // characters count, not bytes
		{"十五文字以上の合言葉なら大丈夫", "alice", ""}, // 15
		{"my dog ate the red bicycle", "alice", ""},
		{"alice has a red bicycle", "alice", ""}, // a name beside other words is accepted
		{"qwerty is where it began", "alice", ""},
		{"kT7#kT7#kT7#kT7$", "alice", ""},
		{"ставкабегивоздухпрост", "alice", ""},                   // "st" and "pro" are walks, the rest is not
		{strings.Repeat("many words ", 12) + "end", "alice", ""}, // 135
		{"    leading, trailing    ", "alice", ""},

		{"", "alice", "0 characters"},
		{"correcthorseba", "alice", "14 characters"},
		{"ééééàààèèêôûïü", "alice", "14 characters"},
		{strings.Repeat("e\u0301", 14), "alice", "14 characters"}, // as hashed
		{"correct horse\xff battery", "alice", "UTF-8"},
		{strings.Repeat("x7", 2048) + "!", "alice", "4096 bytes"},

		{"aaaaaaaaaaaaaaa", "alice", "repeated"},
		{"               ", "alice", "repeated"},
		{"éééééééééééééééé", "alice", "repeated"},
		{"xyxyxyxyxyxyxyx", "alice", "repeated"},
		{"abc!abc!abc!abc!", "alice", "repeated"},
		{"kT7#vQ2xkT7#vQ2x", "alice", "repeated"}, // eight characters, however random
		{"passwordpassword", "alice", "repeated"},
		{"PasswordpassworD", "alice", "repeated"},

		{"123456789012345", "alice", "sequences"},
		{"123456789101112", "alice", "sequences"},
		{"098765432109876", "alice", "sequences"},
		{"12345678987654321", "alice", "sequences"},
		{"abcdefghijklmnop", "alice", "sequences"},
		{"qwertyuiopasdfghjkl", "alice", "sequences"},
		{"QWERTZUIOPasdfghjkl", "alice", "sequences"},
		{"1qaz2wsx3edc4rfv", "alice", "sequences"},
		{"1q2w3e4r5t6y7u8i", "alice", "sequences"},
		{"1234567890qwertyuiop", "alice", "sequences"},
		{"aaaaaaabbbbbbbbb", "alice", "sequences"},
		{"!@#$%^&*()_+)(*&^", "alice", "sequences"},
		{"1234-5678-9012-3456", "alice", "sequences"},
		{"йцукенгшщзхъфыва", "alice", "sequences"},
		{"password12345678", "alice", "common words"},
		{"password-Password", "alice", "common words"},
		{"p@ssw0rdpassword", "alice", "common words"},
		{"thisismypassword", "alice", "common words"},
		{"ｐａｓｓｗｏｒｄ１２３４５６７８", "alice", "common words"}, // full width

		{"alice@example.com", "alice@example.com", "name"},
		{"Alice@Example.COM", "alice@example.com", "name"},
		{"alice.alice.alic", "alice", "repeated"},
		{"maximilianmustermann", "maximilian.mustermann", "name"},
		{"mustermann-1234567", "maximilian.mustermann", "name"},
		{"maximilian.mustermann", "", ""},
		{"ÜBERHOLSPURFAHRER", "überholspurfahrer", "name"},
	} {
		err := Check(refusal.Secret(tt.password), tt.name)
		if tt.want == "" {
			if err != nil {
				t.Errorf("%q: %v", tt.password, err)
			}
			continue
		}
		if hint := refused(t, err, "invalid_request"); !strings.Contains(hint, tt.want) {
			t.Errorf("%q: got %q, want %q", tt.password, hint, tt.want)
		}
	}
}

// These are the 20,000 that Django refuses.
//
// R96.
func TestNoCommonPasswordIsAccepted(t *testing.T) {
	f, err := os.Open("/usr/lib/python3/dist-packages/django/contrib/auth/common-passwords.txt.gz")
	if err != nil {
		needDjango(t, err)
	}
	defer f.Close()
	unzipped, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	rank, long := 0, 0
	for lines := bufio.NewScanner(unzipped); lines.Scan(); {
		rank++
		if len(lines.Text()) < minLength {
			continue
		}
		long++
		if Check(refusal.Secret(lines.Text()), "alice") == nil {
			t.Errorf("%d: %q is accepted", rank, lines.Text())
		}
	}
	if rank < 3000 || long == 0 {
		t.Errorf("%d passwords, %d of them long: nothing was tested", rank, long)
	}
}

func FuzzCheck(f *testing.F) {
	f.Add("correct horse battery staple", "alice")
	f.Add("passwordpassword\xff", "a@b.c")
	f.Add("12345678901234ß", "\xff")
	f.Fuzz(func(t *testing.T, password, name string) {
		if Check(refusal.Secret(password), name) == nil && len(password) < minLength {
			t.Fatalf("%q is accepted", password)
		}
	})
}

// needDjango skips a test that works without Debian's Django elsewhere and fails it in CI.
func needDjango(t *testing.T, err error) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("Django is missing (scripts/install-deps): %v", err)
	}
	t.Skipf("Django is missing (scripts/install-deps): %v", err)
}

// refused fails the test unless err is a Refusal with that code, and returns its description.
func refused(t testing.TB, err error, code string) string {
	t.Helper()
	var r *refusal.Refusal
	if !errors.As(err, &r) || r.Code != code {
		t.Fatalf("got %v, want the refusal %s", err, code)
	}
	return r.Description
}
