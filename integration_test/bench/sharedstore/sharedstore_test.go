package sharedstore

import (
	"strings"
	"testing"
)

// TestEveryScenarioIsMeasured on a real server, with its line.
func TestEveryScenarioIsMeasured(t *testing.T) {
	var table strings.Builder
	if _, err := Measure(true, "", &table); err != nil {
		t.Fatal(err)
	}
	for _, sc := range scenarios() {
		if !strings.Contains(table.String(), " "+sc.name+"  ") {
			t.Errorf("no line for %q in:\n%s", sc.name, table.String())
		}
	}
	if !strings.Contains(table.String(), "no function ran more than") {
		t.Error(table.String())
	}
}
