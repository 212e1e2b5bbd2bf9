package endpoint

import (
	"net/url"
	"testing"
)

// FuzzForm checks that an accepted form has the values that net/url reads.
func FuzzForm(f *testing.F) {
	for _, s := range []string{"", "a=1&b=2", "a=1&a=2", "resource=x&resource=y", "a=%zz", "a;b", "&&=&a", "%61=1", "a=+%20"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ps, err := parseForm(nil, s)
		if err != nil {
			if ps != nil {
				t.Fatal("an error came with a result")
			}
			return
		}
		want, err := url.ParseQuery(s)
		if err != nil {
			t.Fatalf("accepted what net/url refuses: %v", err)
		}
		count := 0
		for _, values := range want {
			count += len(values)
		}
		if count != len(ps) || len(ps) > maxParameters {
			t.Fatalf("%d parameters, net/url reads %d", len(ps), count)
		}
		for _, p := range ps {
			values := want[p.name]
			if len(values) == 0 || (len(values) > 1 && !repeatable(p.name)) {
				t.Fatalf("parameter %q: net/url reads %q", p.name, values)
			}
			if !repeatable(p.name) && values[0] != p.value {
				t.Fatalf("parameter %q is %q, net/url reads %q", p.name, p.value, values[0])
			}
		}
	})
}
