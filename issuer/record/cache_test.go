package record

import (
	"strings"
	"testing"
	"time"
)

func TestTheCacheIsBounded(t *testing.T) {
	var d Cache[int]
	for n := range maxCached + 100 {
		key := strings.Repeat("k", n%7) + time.Duration(n).String()
		if v, err := d.Read(key, []byte("7"), PossibleCount); err != nil || *v != 7 {
			t.Fatal(v, err)
		}
	}
	if len(d.records) > maxCached {
		t.Fatalf("%d records", len(d.records))
	}
}
