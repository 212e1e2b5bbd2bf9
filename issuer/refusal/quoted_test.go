package refusal

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// TestQuotedTextIsInTheAnswerOnly, and what is beside it is also in the log.
func TestQuotedTextIsInTheAnswerOnly(t *testing.T) {
	const secret = "hush"
	for _, r := range []*Refusal{
		New("a", "member '%s' is unknown; known members: %s", Quoted(secret), "id, name"),
		New("a", "'%.100s' is not one of %d", Quoted(secret), 7),
		New("a", "%s and %s", Quoted(secret), Quoted(secret)),
		New("a", "%q", Quoted(secret)),
	} {
		if !strings.Contains(r.Description, secret) {
			t.Errorf("the answer is %q", r.Description)
		}
		r.Cause = errors.New("because")
		for _, logged := range []string{r.Error(), fmt.Errorf("x: %w", r).Error()} {
			if strings.Contains(logged, secret) || !strings.Contains(logged, "...") || !strings.Contains(logged, "because") {
				t.Errorf("the log has %q", logged)
			}
		}
	}
	if r := New("a", "member %s of %s", Quoted(secret), "orders"); r.Error() != "a: member ... of orders" {
		t.Errorf("the log has %q", r)
	}
	if r := New("a", "plain %s", "text"); r.Error() != "a: plain text" || r.Description != "plain text" {
		t.Errorf("without quoted text: %q", r)
	}
}
