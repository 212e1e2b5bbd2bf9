package verifiers

import (
	"math"
	"math/bits"
	"time"
)

const (
	// maxInterval bounds the usual interval: a verifier that comes less often is waited for two weeks.
	maxInterval = 7 * 24 * time.Hour

	// halfLife is how soon the weight of an interval halves. A verifier that comes every day and then
	// every five minutes has the new interval after three days; one that came once a week after five.
	halfLife = 3 * 24 * time.Hour

	buckets = 21 // bits of maxInterval in seconds, and one for less than a second
)

// A habit knows the usual interval between the visits of a verifier: half of the time, weighted as
// below, passed in intervals that were at least as long. So intervals count by their length. Twenty
// visits in a minute once a day are a minute of short intervals and almost a day of a long one, and
// the usual interval is a day. A verifier that comes every five minutes and sleeps at the weekend
// has five minutes.
//
// The weight of an interval is its length, and halves every three days. Intervals are kept in buckets
// by the bits of their seconds, so a visit costs the same however many there were. The usual
// interval is the mean of the bucket in which the half is reached.
type habit struct {
	buckets [buckets]bucket
	pending time.Duration // since the weights were reduced last
}

// A bucket has the intervals of one power of two, in their weights of now.
type bucket struct {
	seconds float64 // their lengths together
	visits  float64 // their number
}

// add adds an interval that has just ended.
func (h *habit) add(interval time.Duration) {
	if interval <= 0 {
		return
	}
	if h.pending += interval; h.pending >= time.Minute { // otherwise nothing changes that could be seen
		h.fade(h.pending)
		h.pending = 0
	}
	b := &h.buckets[bucketOf(interval)]
	b.seconds += min(interval, maxInterval).Seconds()
	b.visits++
}

func bucketOf(interval time.Duration) int {
	return bits.Len64(uint64(min(interval, maxInterval) / time.Second))
}

func (h *habit) fade(passed time.Duration) {
	factor := math.Exp2(-float64(passed) / float64(halfLife))
	for n := range h.buckets {
		h.buckets[n].seconds *= factor
		h.buckets[n].visits *= factor
	}
}

// usual returns the usual interval in whole seconds; 0 if it is not known, or less than half a second.
func (h *habit) usual() time.Duration {
	total := 0.0
	for _, b := range h.buckets {
		total += b.seconds
	}
	sum := 0.0
	for _, b := range h.buckets {
		if sum += b.seconds; b.seconds > 0 && sum >= total/2 {
			return min(time.Duration(math.Round(b.seconds/b.visits))*time.Second, maxInterval)
		}
	}
	return 0
}
