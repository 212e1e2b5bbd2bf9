package diagnose

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"keymill/jwks"
)

// TestVerifyCountsWhatItDoesNotList, also what package jwks does not list.
func TestVerifyCountsWhatItDoesNotList(t *testing.T) {
	for _, tt := range []struct{ listed, count, more int }{
		{2, 2, 0},
		{maxKeysShown, maxKeysShown, 0},
		{maxKeysShown + 4, maxKeysShown + 4, 4},
		{maxKeysShown + 4, maxKeysShown + 84, 84},
		{2, 82, 80},
	} {
		c := TokenCheck{
			failure: &jwks.Failure{Step: jwks.StepKey},
			keys:    jwks.RemoteStatus{Fetched: time.Now(), Keys: []jwks.Key{{KID: "ed"}}},
		}
		c.err = c.failure
		c.Token.header = map[string]json.RawMessage{"kid": json.RawMessage(`"gone"`)}
		c.keys.Skipped.Count = tt.count
		for n := range tt.listed {
			c.keys.Skipped.Keys = append(c.keys.Skipped.Keys, jwks.SkippedKey{Index: n, Reason: "too weak"})
		}
		last := fmt.Sprintf("key %d (kid \"\"): too weak", tt.listed-1)
		if tt.more > 0 {
			last = fmt.Sprintf("… and %d more", tt.more)
		}
		var out bytes.Buffer
		if err := c.printKeySet(&out); err != nil || !strings.HasSuffix(out.String(), " "+last+"\n") ||
			strings.Count(out.String(), "not trusted:") > maxKeysShown+1 || strings.Count(out.String(), " more\n") > 1 {
			t.Errorf("%+v: %v\n%s", tt, err, &out)
		}
		hidden := tt.count - tt.listed
		if said := strings.Contains(c.advice(), fmt.Sprintf("one of %d more that are not trusted", hidden)); said != (hidden > 0) {
			t.Errorf("%+v: %s", tt, c.advice())
		}
		skipped := c.report().KeySet.Skipped
		if len(skipped) != tt.listed+min(hidden, 1) || hidden > 0 && skipped[tt.listed] != fmt.Sprintf("… and %d more", hidden) {
			t.Errorf("%+v: JSON has %q", tt, skipped)
		}
	}
}
