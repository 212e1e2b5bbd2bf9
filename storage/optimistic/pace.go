package optimistic

import (
	"runtime"
	"sync"
	"time"
)

// longestGather bounds how long a committer waits for more calls, because the batch of another one may hang.
const longestGather = 5 * time.Millisecond

// letOthersJoin lets callers that could run come as far as the queue, if the last batch had several calls: the callers of
// a batch go on together and come back together. Without it a batch begins with the first of them, and the others
// have the next one. A caller that is alone does not wait.
func letOthersJoin(last int) {
	if last > 1 {
		runtime.Gosched()
	}
}

// A pace keeps batches large. While other committers write, a further one does not begin with the few calls that
// wait at that moment, because they would make many small batches, and a batch takes much longer than a call in it. It
// waits for as many calls as the smallest batch under way has, or until a batch ends, and one committer at a time does so.
type pace struct {
	gather chan struct{} // has room for one: the committer that waits for calls

	mu    sync.Mutex
	calls map[int]int   // committer → calls of its batch under way; guarded by mu
	ended chan struct{} // closed when a batch ends; guarded by mu
}

func newPace() *pace {
	return &pace{gather: make(chan struct{}, 1), calls: map[int]int{}, ended: make(chan struct{})}
}

// begin says that a batch with so many calls is under way.
func (p *pace) begin(committer, calls int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls[committer] = calls
}

// end says that it has ended.
func (p *pace) end(committer int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.calls, committer)
	close(p.ended)
	p.ended = make(chan struct{})
}

// wanted returns how many calls to wait for, and until when. No call has to be waited for if no batch is under way.
func (p *pace) wanted() (calls int, ended <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, n := range p.calls {
		if calls == 0 || n < calls {
			calls = n
		}
	}
	return calls, p.ended
}
