package signing

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
)

// ErrFull means that MaxWaiting jobs wait already.
var ErrFull = errors.New("the queue is full")

// MaxWaiting is how many signatures may wait for one ring. An RSA signature takes about
// 1 ms, so on two cores the last one waits half a second. A longer queue would only delay
// the refusal.
const MaxWaiting = 1000

// A Queue runs a bounded number of jobs at once, in order of arrival. Without it the Go
// scheduler chooses the order: of 16 RSA signatures on two cores, some wait twenty times as
// long as the others.
//
// A caller that finds a free slot runs its job in its own goroutine. Waiting jobs are run
// one after another by the goroutine that owns the slot; it yields the processor after each
// job. Measured with RSA, 16 connections and two cores, the ratio of p99 to p50 is 2.5
// at full speed. Waking the next caller for every signature gave 5. One slot fewer than
// processors gave 2, but a tenth fewer requests.
//
// Jobs outside of Go, such as calls of C, leave their processor of Go to other goroutines anyway, but get it back only some
// time after they have ended. So with a long line of them nothing yields, and twice as many run at once: that was 9 % more
// requests with 64 connections. With a short line a slot more than processors gives the shortest tail.
type Queue struct {
	outside func() bool // the jobs run outside of Go now; nil if they never do
	slots   int

	mu   sync.Mutex
	free int    // slots without a job; guarded by mu
	more int    // jobs that run beside those of the slots; guarded by mu
	jobs []*job // waiting, the oldest first; guarded by mu
}

type job struct {
	run  func()
	done chan struct{} // closed after run
}

// NewQueue returns a Queue that runs slots jobs at once.
func NewQueue(slots int) *Queue { return &Queue{slots: slots, free: slots} }

// NewQueueOutside is NewQueue for jobs that run outside of Go while outside reports it. While the line is long, it runs
// twice as many.
func NewQueueOutside(slots int, outside func() bool) *Queue {
	return &Queue{outside: outside, slots: slots, free: slots}
}

// Begin takes a free slot, if there is one. The caller runs its job and calls End. It costs less than Do, which makes a
// function of the job.
func (q *Queue) Begin() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.free == 0 {
		return false
	}
	q.free--
	return true
}

// End passes the slot that Begin took to the jobs that wait, or frees it.
func (q *Queue) End() {
	if j := q.next(); j != nil {
		go q.drain(j)
	}
}

// Do runs a job in its turn. After an error the job has not run and will not.
func (q *Queue) Do(ctx context.Context, run func()) error {
	q.mu.Lock()
	if q.free > 0 {
		q.free--
		q.mu.Unlock()
		defer q.End()
		run()
		return nil
	}
	if len(q.jobs) >= MaxWaiting {
		q.mu.Unlock()
		return ErrFull
	}
	j := &job{run: run, done: make(chan struct{})}
	q.jobs = append(q.jobs, j)
	if q.more < q.slots && q.isLongOutside() {
		q.more++
		go q.drainLong()
	}
	q.mu.Unlock()
	select {
	case <-j.done:
		return nil
	case <-ctx.Done():
		return q.leave(ctx, j)
	}
}

// Full reports whether Do would refuse a job.
func (q *Queue) Full() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.free == 0 && len(q.jobs) >= MaxWaiting
}

// leave removes a job whose context has ended. If the job is no longer in the queue, it is
// running, and leave waits for it.
func (q *Queue) leave(ctx context.Context, j *job) error {
	q.mu.Lock()
	i := slices.Index(q.jobs, j)
	if i >= 0 {
		q.jobs = slices.Delete(q.jobs, i, i+1)
	}
	q.mu.Unlock()
	if i < 0 {
		<-j.done
		return nil
	}
	return ctx.Err()
}

func (q *Queue) drain(j *job) {
	for ; j != nil; j = q.next() {
		j.run()
		close(j.done)
		if !q.skipsYield() {
			runtime.Gosched() // so that the caller can send its response and new requests can be read
		}
	}
}

// drainLong runs jobs beside those of the slots until the line is no longer long.
func (q *Queue) drainLong() {
	for j := q.nextOfLong(); j != nil; j = q.nextOfLong() {
		j.run()
		close(j.done)
	}
}

func (q *Queue) skipsYield() bool {
	if q.outside == nil {
		return false
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.isLongOutside()
}

// isLongOutside reports whether more than eight jobs wait for each slot, and run outside of Go. The caller holds mu.
func (q *Queue) isLongOutside() bool {
	return q.outside != nil && len(q.jobs) > 8*q.slots && q.outside()
}

// next removes and returns the oldest job. If there is none it frees the slot.
func (q *Queue) next() *job {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.jobs) == 0 {
		q.free++
		return nil
	}
	return q.oldest()
}

func (q *Queue) nextOfLong() *job {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.isLongOutside() {
		q.more--
		return nil
	}
	return q.oldest()
}

// oldest removes and returns the oldest job. The caller holds mu.
func (q *Queue) oldest() *job {
	j := q.jobs[0]
	q.jobs = slices.Delete(q.jobs, 0, 1)
	return j
}
