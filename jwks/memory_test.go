package jwks

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// memory returns how much the result of f keeps, and how much f allocates.
func memory[T any](f func() T) (result T, held, spent int) {
	var before, after runtime.MemStats
	settle := func(m *runtime.MemStats) {
		runtime.GC()
		runtime.GC() // a sync.Pool keeps its values over one run
		runtime.ReadMemStats(m)
	}
	settle(&before)
	result = f()
	settle(&after)
	return result, int(after.HeapAlloc) - int(before.HeapAlloc), int(after.TotalAlloc - before.TotalAlloc)
}

// repeated returns as many pieces as fit into size bytes, with commas between them.
func repeated(size int, piece func(n int) string) string {
	var b strings.Builder
	for n := 0; ; n++ {
		p := piece(n) + ","
		if b.Len()+len(p) > size {
			return strings.TrimSuffix(b.String(), ",")
		}
		b.WriteString(p)
	}
}

// TestNoKeySetNeedsManyTimesItsSize: a document is at most 256 KiB long, and only its keys stay in
// memory. The garbage on the way is bounded too.
func TestNoKeySetNeedsManyTimesItsSize(t *testing.T) {
	const most = 8 * maxDocumentBytes       // 6 for kids of "<", which encoding/json escapes
	const mostSpent = 64 * maxDocumentBytes // 35 for one object of many members
	for name, list := range hostileLists() {
		document := []byte(`{"keys":[` + list + `]}`)
		if n := len(document); n > maxDocumentBytes || n < maxDocumentBytes*9/10 {
			t.Fatalf("%s: the row has %d bytes", name, n)
		}
		set, held, spent := memory(func() *Set { return mustParse(t, document) })
		bound := 32 << 10
		if len(set.keys) > 1 {
			bound = most
		}
		if held > bound || spent > mostSpent {
			t.Errorf("%s: %d KiB are kept, %d were allocated", name, held>>10, spent>>10)
		}
		t.Logf("%-14s %4d keys, %5d KiB kept, %5d allocated", name, len(set.keys), held>>10, spent>>10)
		runtime.KeepAlive(document)
	}
}

func mustParse(t *testing.T, document []byte) *Set {
	t.Helper()
	set, err := Parse(document)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// hostileLists are lists of keys in just under 256 KiB.
func hostileLists() map[string]string {
	const size = maxDocumentBytes - 64
	same := func(piece string) string { return repeated(size, func(int) string { return piece }) }
	numbered := func(format string) string {
		return repeated(size, func(n int) string { return fmt.Sprintf(format, n) })
	}
	key := strings.Replace(rfc8037Key, `"a"`, `"%[2]s%[1]x"`, 1)
	keys := func(prefix string, share int) string {
		return repeated(size, func(n int) string { return fmt.Sprintf(key, n/share, prefix) })
	}
	control := strings.Repeat(`\u0001`, 100)
	return map[string]string{
		"objects":       same("{}"),
		"numbers":       same("7"),
		"long reasons":  same(`{"kty":"` + control + `","kid":"` + control + `"}`),
		"kids":          numbered(`{"kid":"%x"}`),
		"one kid":       same(`{"kid":"k"}`),
		"members":       "{" + numbered(`"%x":1`) + "}",
		"members below": `{"kid":{` + numbered(`"%x":1`) + "}}",
		"key_ops":       `{"key_ops":[` + same(`""`) + "]}",
		"keys":          keys("", 1),
		"twins":         keys("", 2),
		"kids of <":     keys(strings.Repeat("<", 240), 1),
		"RSA": repeated(size, func(n int) string {
			return strings.Replace(rsaMember("AQAB", rsaModulus()), `"k"`, fmt.Sprintf(`"%x"`, n), 1)
		}),
		"one key": rfc8037Key + strings.Repeat(" ", size-len(rfc8037Key)),
	}
}

// TestSkippedListsTwentyKeysAndCountsAll.
func TestSkippedListsTwentyKeysAndCountsAll(t *testing.T) {
	for members, want := range map[int]string{
		19: "key 19 (kid", 20: "key 20 (kid", 21: "key 20 (kid", 5000: "key 20 (kid",
	} {
		set := mustParse(t, []byte(`{"keys":[`+rfc7515Key+strings.Repeat(`,{}`, members)+`]}`))
		skipped := set.Skipped()
		n := len(skipped.Keys)
		if last := skipped.Keys[n-1].String(); skipped.Count != members || n != min(members, 20) || !strings.HasPrefix(last, want) {
			t.Errorf("%d members: %d of %d listed, the last is %q", members, n, skipped.Count, last)
		}
		if len(set.Keys()) != 1 {
			t.Errorf("%d members: %d keys", members, len(set.Keys()))
		}
	}
	twins := strings.Repeat(rfc8037Key+",", 30) + rfc7515Key
	if s := mustParse(t, []byte(`{"keys":[`+twins+`]}`)).Skipped(); s.Count != 30 || len(s.Keys) != 20 {
		t.Errorf("30 keys of one kid: %d skipped, %d listed", s.Count, len(s.Keys))
	}
}
