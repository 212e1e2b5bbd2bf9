package keystore

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"time"
)

// maxWaiting bounds the queue of one ring. With RSA at about 1 ms a signature, the last
// one waits for half a second; more waiting helps nobody.
const maxWaiting = 1000

// A queue lets a bounded number of signers run, in order of arrival. Without it, the
// scheduler serves sixteen RSA signatures on two cores in an order of its own, and the
// unlucky wait twenty times as long as the others.
//
// Who finds a signer free signs in its own goroutine. Who has to wait is served by a
// goroutine that signs one after the other, and steps aside after each. Measured with RSA
// and 16 connections on two cores: waking the next in line for every signature, p99 was
// five times p50; with a processor to spare for what arrives, twice, but a tenth of the
// requests were lost to switching; like this it is 2.5 times, at full speed.
type queue struct {
	mu   sync.Mutex
	free int    // signers that could begin; owned by mu
	jobs []*job // waiting, the oldest first; owned by mu
}

type job struct {
	run  func()
	done chan struct{}
}

func newQueue(signers int) *queue { return &queue{free: signers} }

// do runs a job when its turn has come. An error means that it was not run.
func (q *queue) do(ctx context.Context, run func()) error {
	q.mu.Lock()
	if q.free > 0 {
		q.free--
		q.mu.Unlock()
		defer q.handOver()
		run()
		return nil
	}
	if len(q.jobs) >= maxWaiting {
		q.mu.Unlock()
		return queueFull()
	}
	j := &job{run: run, done: make(chan struct{})}
	q.jobs = append(q.jobs, j)
	q.mu.Unlock()
	select {
	case <-j.done:
		return nil
	case <-ctx.Done():
		return q.leave(ctx, j)
	}
}

// full tells whether do would turn a job away.
func (q *queue) full() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.free == 0 && len(q.jobs) >= maxWaiting
}

func queueFull() error {
	return &UnavailableError{Reason: "too many tokens are waiting for a signature", RetryAfter: time.Second}
}

// leave takes a job out whose caller has gone, unless it is its turn already.
func (q *queue) leave(ctx context.Context, j *job) error {
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

// handOver gives the signer to whoever waits, or back.
func (q *queue) handOver() {
	if j := q.next(); j != nil {
		go q.drain(j)
	}
}

func (q *queue) drain(j *job) {
	for ; j != nil; j = q.next() {
		j.run()
		close(j.done)
		runtime.Gosched() // who was served can answer, and who arrived can be read
	}
}

// next returns the oldest job; if there is none, the signer is free.
func (q *queue) next() *job {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.jobs) == 0 {
		q.free++
		return nil
	}
	j := q.jobs[0]
	q.jobs = slices.Delete(q.jobs, 0, 1)
	return j
}
