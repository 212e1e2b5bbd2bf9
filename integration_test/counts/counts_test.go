package counts

import "testing"

func TestEveryCICountIsAtLeastATwentiethOfItsFullCount(t *testing.T) {
	for name, r := range table {
		if r.ci < 1 || r.full < r.ci {
			t.Errorf("%s: ci %d, full %d: want 1 ≤ ci ≤ full", name, r.ci, r.full)
		}
		if r.ci*smallestShare < r.full {
			t.Errorf("%s: ci %d is less than 1/%d of full %d", name, r.ci, smallestShare, r.full)
		}
	}
}

func TestTheTierChoosesTheColumn(t *testing.T) {
	const name = "kill9-rounds"
	for tier, want := range map[string]int{"": table[name].ci, "ci": table[name].ci, "full": table[name].full} {
		t.Setenv(Tier, tier)
		if got := Of(name); got != want {
			t.Errorf("tier %q: %d, want %d", tier, got, want)
		}
	}
}

func TestAnUnknownNamePanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("Of did not panic for a name that is not in the table")
		}
	}()
	Of("unknown")
}
