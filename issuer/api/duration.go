package api

import (
	"strconv"
	"strings"
	"time"

	"keymill/issuer/refusal"
)

// ParseSeconds reads a lifetime in whole seconds, or refuses it; "" is 0. what is its member.
func ParseSeconds(what, text string, least, most time.Duration) (int64, error) {
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < least || d > most || d%time.Second != 0 {
		return 0, refusal.New("invalid_request", "%s '%.100s' is not %s to %s in whole seconds",
			what, refusal.Quoted(text), ShowDuration(least), ShowDuration(most))
	}
	return int64(d / time.Second), nil
}

// ShowDuration returns "10m" where time.Duration's String returns "10m0s", and "30d" for "720h0m0s".
func ShowDuration(d time.Duration) string {
	if day := 24 * time.Hour; d > day && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
