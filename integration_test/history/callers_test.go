package history

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"keymill/storage"
)

const (
	worlds  = 6
	callers = 2 // of each store in each world
)

// A recorder records requests with what they saw.
type recorder struct {
	t     *testing.T
	began time.Time
	value atomic.Int64 // written last; no value is written twice

	mu      sync.Mutex
	history []porcupine.Operation // guarded by mu, as all below
	away    int                   // requests that the stores could not do
	unknown int
	problem error // the last reason for either
}

// record runs callers on the stores while act runs, and returns what they did.
func record(t *testing.T, stores []storage.Store, act func(*recorder)) *recorder {
	t.Helper()
	h := &recorder{t: t, began: time.Now()}
	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for _, s := range stores {
		for world := range worlds {
			for range callers {
				all.Go(func() {
					for ctx.Err() == nil {
						h.turn(s, world)
						time.Sleep(rand.N(6 * time.Millisecond))
					}
				})
			}
		}
	}
	act(h)
	stop()
	all.Wait()
	return h
}

// await waits until that many requests are recorded, on a machine that is as slow as it may be.
func (h *recorder) await(requests int) {
	recorded := func() int {
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(h.history)
	}
	const failsafe = 3 * time.Minute // only bounds a hang
	for end := time.Now().Add(failsafe); recorded() < requests && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
}

func (h *recorder) String() string {
	return fmt.Sprintf("%d requests, %d not done, %d with an unknown outcome, %v", len(h.history), h.away, h.unknown, h.problem)
}

// turn does one request.
func (h *recorder) turn(s storage.Store, world int) {
	r := request{world: world, op: op(rand.IntN(int(ops)))}
	switch r.op {
	case add:
		r.at = rand.IntN(counters)
	case claim, leave:
		r.at, r.with = rand.IntN(places), int(h.value.Add(1))
	case exchange, refuse:
		r.at = rand.IntN(registers)
		r.with = (r.at + 1 + rand.IntN(registers-1)) % registers
	default:
		r.at, r.with = rand.IntN(registers), int(h.value.Add(1))
	}
	call := time.Since(h.began)
	a, err := do(context.Background(), s, r)
	o := porcupine.Operation{Input: r, Output: a, Call: call.Nanoseconds(), Return: time.Since(h.began).Nanoseconds()}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case errors.Is(err, storage.ErrUnknownOutcome):
		h.unknown, h.problem = h.unknown+1, err
		o.Output, o.Return = answer{}, math.MaxInt64/2
	case errors.Is(err, storage.ErrUnavailable):
		h.away, h.problem = h.away+1, err
		return // nothing was done
	case err != nil:
		h.t.Errorf("%v: %v", r, err)
		return
	}
	h.history = append(h.history, o)
}

// errRefused ends the function of refuse.
type errRefused struct{ saw [2]int }

func (errRefused) Error() string { return "refused" }

// do does the request. An error of refuse is its answer.
func do(ctx context.Context, s storage.Store, r request) (a answer, err error) {
	a.known = true
	w := records{r.world}
	if r.op == look || r.op == list {
		err = s.View(ctx, func(reader storage.Reader) (err error) {
			if r.op == look {
				a.all, err = w.look(reader)
			} else {
				a.all, err = w.list(reader)
			}
			return err
		})
		return a, err
	}
	err = s.Update(ctx, func(tx storage.Tx) (err error) {
		a.saw, err = w.change(tx, r)
		return err
	})
	if refused, ok := errors.AsType[errRefused](err); ok {
		a.saw, err = refused.saw, nil
	}
	return a, err
}

// records reads and writes the records of a world.
type records struct{ world int }

func (w records) register(n int) string { return fmt.Sprintf("w%d/register/%d", w.world, n) }
func (w records) counter(n int) string  { return fmt.Sprintf("w%d/counter/%d", w.world, n) }
func (w records) place(n int) string    { return fmt.Sprintf("w%d/place/%d", w.world, n) }

func (w records) get(r storage.Reader, key string) (int, error) {
	v, err := r.Get(key)
	if errors.Is(err, storage.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(string(v))
}

func (w records) put(tx storage.Tx, key string, n int) error {
	if n == 0 {
		return tx.Delete(key)
	}
	return tx.Put(key, []byte(strconv.Itoa(n)))
}

// change does an Update and returns what it saw.
func (w records) change(tx storage.Tx, r request) (saw [2]int, err error) {
	switch r.op {
	case add:
		n, err := w.get(tx, w.counter(r.at))
		return [2]int{n + 1}, errors.Join(err, w.put(tx, w.counter(r.at), n+1))
	case write:
		return saw, w.put(tx, w.register(r.at), r.with)
	case swap:
		n, err := w.get(tx, w.register(r.at))
		return [2]int{n}, errors.Join(err, w.put(tx, w.register(r.at), r.with))
	case exchange, refuse:
		one, err := w.get(tx, w.register(r.at))
		two, err2 := w.get(tx, w.register(r.with))
		saw = [2]int{one, two}
		switch {
		case err != nil || err2 != nil:
			return saw, errors.Join(err, err2)
		case r.op == refuse:
			return saw, errRefused{saw}
		}
		return saw, errors.Join(w.put(tx, w.register(r.at), two), w.put(tx, w.register(r.with), one))
	case claim:
		for _, err := range tx.Scan(w.place(0), w.place(places)) {
			if err != nil {
				return saw, err
			}
			saw[0]++
		}
		if saw[0] > 0 {
			return saw, nil
		}
		return saw, w.put(tx, w.place(r.at), r.with)
	case leave:
		n, err := w.get(tx, w.place(r.at))
		return [2]int{n}, errors.Join(err, w.put(tx, w.place(r.at), 0))
	}
	panic("no such request")
}

// look reads everything by key.
func (w records) look(r storage.Reader) (s state, err error) {
	for _, group := range []struct {
		into []int
		key  func(int) string
	}{{s.Registers[:], w.register}, {s.Counters[:], w.counter}, {s.Places[:], w.place}} {
		for n := range group.into {
			if group.into[n], err = w.get(r, group.key(n)); err != nil {
				return s, err
			}
		}
	}
	return s, nil
}

// list reads everything in one scan.
func (w records) list(r storage.Reader) (s state, err error) {
	found := map[string]int{}
	prefix := fmt.Sprintf("w%d/", w.world)
	for e, err := range r.Scan(prefix, storage.EndOf(prefix)) {
		if err != nil {
			return s, err
		}
		if found[e.Key], err = strconv.Atoi(string(e.Value)); err != nil {
			return s, err
		}
	}
	for n := range s.Registers {
		s.Registers[n] = found[w.register(n)]
	}
	for n := range s.Counters {
		s.Counters[n] = found[w.counter(n)]
	}
	for n := range s.Places {
		s.Places[n] = found[w.place(n)]
	}
	return s, nil
}
