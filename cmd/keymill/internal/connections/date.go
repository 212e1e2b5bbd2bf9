package connections

import (
	"net/http"
	"sync/atomic"
	"time"
)

// dates are the values of the Date header (RFC 9110, section 6.6.1). All answers of a second share one. net/http would
// write the text for each answer.
type dates struct{ latest atomic.Pointer[date] }

// A date is the text for one second. Nothing may write to it.
type date struct {
	second int64 // since 1970
	value  []string
}

// at returns the value for an answer that begins now.
func (d *dates) at(now time.Time) []string {
	second := now.Unix()
	if known := d.latest.Load(); known != nil && known.second == second {
		return known.value
	}
	value := []string{now.UTC().Format(http.TimeFormat)}
	d.latest.Store(&date{second, value})
	return value
}
