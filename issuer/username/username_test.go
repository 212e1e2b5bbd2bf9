package username

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestAUserNameHasOneSpelling(t *testing.T) {
	long := strings.Repeat("é", maxCharacters)
	for _, tt := range []struct {
		name, want string
		ok         bool
	}{
		{"alice", "alice", true},
		{"Alice", "Alice", true}, // case matters
		{"alice@example.com", "alice@example.com", true},
		{"Zoë", "Zoë", true},
		{"Zoe\u0308", "Zo\u00eb", true},
		{"ａｌｉｃｅ", "alice", true}, // full width
		{"ﬁona", "fiona", true},
		{"x²", "x2", true},
		{"Ω", "Ω", true}, // the sign of the unit ohm becomes the letter
		{"a b", "a b", true},
		{"a\u00a0b", "a b", true},
		{"क्\u200dष", "क्\u200dष", true}, // some languages need joiners
		{"1", "1", true},
		{long, long, true},
		{strings.Repeat("e\u0301", maxCharacters), long, true}, // counted after normalization
		{long + "x", "", false},
		{strings.Repeat("ﬃ", 51), "", false},
		{"", "", false},
		{" alice", "", false},
		{"alice ", "", false},
		{"alice\u00a0", "", false},
		{"\u3000alice", "", false},
		{"\u00a8", "", false}, // NFKC: a space and a dot above
		{"   ", "", false},
		{"ali\x00ce", "", false},
		{"ali\nce", "", false},
		{"ali\x7fce", "", false},
		{"ali\u0085ce", "", false},
		{"ali\u2028ce", "", false},
		{"ali\u202ece", "", false}, // shows as "aliec"
		{"ali\xffce", "", false},
		{"ali\u200dce", "", false}, // an invisible character
		{"ali\u200bce", "", false},
		{"ali\u00adce", "", false},
		{"\ufeffalice", "", false},
		{"ali\u2060ce", "", false},
		{"ali\U000e0041ce", "", false},
		{"\u1160", "", false},
		{"alice\ufe00", "", false},
		{"alice\U000e0100", "", false},
		{"id:7", "", false},               // verbs name a user by id like this
		{"\ud7ff\xed\xa0\x80", "", false}, // half of a surrogate pair
		{strings.Repeat("x", maxBytes+1), "", false},
	} {
		got, ok := Normal(tt.name)
		if got != tt.want || ok != tt.ok {
			t.Errorf("%+q: got %+q, %v", tt.name, got, ok)
		}
	}
}

func FuzzNormalName(f *testing.F) {
	for _, name := range []string{"alice", "Zoe\u0308", "ﬁ", "\u00a8", "ali\u202ece", "\xff"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		normal, ok := Normal(name)
		if !ok {
			return
		}
		if again, ok := Normal(normal); !ok || again != normal {
			t.Fatalf("%+q: %+q becomes %+q, %v", name, normal, again, ok)
		}
	})
}

func TestDjangoComparesUserNamesAsWeDo(t *testing.T) {
	names := []string{"alice", "Zoe\u0308", "ａｌｉｃｅ", "ﬁona", "x²", "Ω", "ẛ̣", "각", "½", "ǆ"}
	asked, err := json.Marshal(names)
	if err != nil {
		t.Fatal(err)
	}
	// This is what Django's AbstractBaseUser.normalize_username does.
	cmd := exec.CommandContext(t.Context(), "/usr/bin/python3", "-I", "-c",
		`import json, sys, unicodedata; json.dump([unicodedata.normalize("NFKC", n) for n in json.load(sys.stdin)], sys.stdout)`)
	cmd.Stdin = bytes.NewReader(asked)
	answer, err := cmd.Output()
	if err != nil && os.Getenv("CI") == "" {
		t.Skipf("Python is missing (scripts/install-deps): %v", err)
	}
	var normal []string
	if err := errors.Join(err, json.Unmarshal(answer, &normal)); err != nil {
		t.Fatal(err)
	}
	for n, name := range names {
		if got, ok := Normal(name); !ok || got != normal[n] {
			t.Errorf("%+q: we compare %+q, Django %+q", name, got, normal[n])
		}
	}
}
