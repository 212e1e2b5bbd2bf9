package retry

import (
	"encoding/binary"
	"testing"

	"keymill/issuer/record"
)

// TestALateAnswerReplacesNoNewerCount: nor does the end of an older generation remove it.
func TestALateAnswerReplacesNoNewerCount(t *testing.T) {
	var c Counts
	id := record.ID{1}
	c.Add(id, 5)
	c.Add(id, 4)
	c.Forget(id, 4)
	if n := c.Get(id, 5); n != 1 {
		t.Errorf("the count is %d, want 1", n)
	}
	c.Add(id, 5)
	if n := c.Get(id, 5); n != 2 {
		t.Errorf("the count is %d, want 2", n)
	}
	if n := c.Get(id, 4); n != 0 {
		t.Errorf("an older generation has the count %d", n)
	}
	c.Add(id, 6)
	if n := c.Get(id, 6); n != 1 {
		t.Errorf("the next generation begins with %d", n)
	}
	if c.Forget(id, 6); c.Get(id, 6) != 0 {
		t.Error("the count is still there")
	}
}

// TestTheCountsAreBounded, whatever the number of sessions.
func TestTheCountsAreBounded(t *testing.T) {
	var c Counts
	for n := range uint64(maxCounts + 100) {
		c.Add(record.ID(binary.BigEndian.AppendUint64(make([]byte, 8), n)), 1)
	}
	if len(c.counts) != maxCounts {
		t.Errorf("%d counts", len(c.counts))
	}
}
