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
	c.Add(id, 5, true)
	c.Add(id, 4, false)
	c.Forget(id, 4)
	if n := c.Get(id, 5); n != (Count{Answers: 1, OtherAddress: true}) {
		t.Errorf("the count is %+v, want one answer to another address", n)
	}
	c.Add(id, 5, false)
	if n := c.Get(id, 5); n != (Count{Answers: 2, OtherAddress: true}) {
		t.Errorf("the count is %+v, want two answers", n)
	}
	if n := c.Get(id, 4); n != (Count{}) {
		t.Errorf("an older generation has the count %+v", n)
	}
	c.Add(id, 6, false)
	if n := c.Get(id, 6); n != (Count{Answers: 1}) {
		t.Errorf("the next generation begins with %+v", n)
	}
	if c.Forget(id, 6); c.Get(id, 6) != (Count{}) {
		t.Error("the count is still there")
	}
}

// TestTheCountsAreBounded, whatever the number of sessions.
func TestTheCountsAreBounded(t *testing.T) {
	var c Counts
	for n := range uint64(maxCounts + 100) {
		c.Add(record.ID(binary.BigEndian.AppendUint64(make([]byte, 8), n)), 1, false)
	}
	if len(c.counts) != maxCounts {
		t.Errorf("%d counts", len(c.counts))
	}
}
