// Package activity counts what the token endpoints did in each of the last 60 minutes, in memory. It counts
// also without metrics.listen, and forgets everything when the server ends.
//
//	Add ──▶ cell = minute since the start (32 bits) | count (32 bits) ──▶ Minutes
//	        one ring of 60 cells for each kind
//
// A cell begins again with the first event of another minute. So an event costs one atomic addition, and the first
// of a minute one exchange. Minutes follow the monotonic clock: a jump of the wall clock moves no event.
package activity

import (
	"sync/atomic"
	"time"

	"keymill/issuer/api"
)

// A Kind is a kind of event.
type Kind int

// All kinds.
const (
	Token   Kind = iota // an access token was issued
	Refusal             // a request for one was refused
	Reuse               // of the refusals, a replaced refresh token was used again, which ended its session
	kinds
)

const (
	minutes   = 60
	countBits = 32
)

// A Recorder counts for one server. It is safe for concurrent use.
type Recorder struct {
	start time.Time // of the minute in which the server started
	rings [kinds][minutes]atomic.Uint64
}

// New returns a Recorder whose first minute is that of now.
func New() *Recorder {
	now := time.Now()
	return &Recorder{start: now.Add(-time.Duration(now.UnixNano() % int64(time.Minute)))}
}

// Add counts an event.
func (r *Recorder) Add(k Kind) {
	now := r.minute()
	cell := &r.rings[k][now%minutes]
	for {
		old := cell.Load()
		if old>>countBits == now {
			cell.Add(1)
			return
		}
		if cell.CompareAndSwap(old, now<<countBits|1) {
			return
		}
	}
}

// Minutes returns the last 60 minutes, or those since the start, oldest first. The last one has not ended.
func (r *Recorder) Minutes() []api.ActivityMinute {
	now, begin := r.minute(), time.Now().UTC().Truncate(time.Minute)
	count := min(now+1, minutes)
	list := make([]api.ActivityMinute, count)
	for i := range list {
		back := count - 1 - uint64(i)
		list[i] = api.ActivityMinute{
			Begin:  begin.Add(-time.Duration(back) * time.Minute),
			Tokens: r.count(Token, now-back), Refusals: r.count(Refusal, now-back), Reuses: r.count(Reuse, now-back),
		}
	}
	return list
}

// minute returns the minutes since the start.
func (r *Recorder) minute() uint64 { return uint64(time.Since(r.start) / time.Minute) }

func (r *Recorder) count(k Kind, minute uint64) uint64 {
	cell := r.rings[k][minute%minutes].Load()
	if cell>>countBits != minute {
		return 0
	}
	return cell & (1<<countBits - 1)
}
