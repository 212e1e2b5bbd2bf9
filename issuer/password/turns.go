package password

import (
	"context"
	"errors"
	"slices"
	"sync"
)

const (
	maxHashWaiting        = 256 // in each queue
	maxHashWaitingAccount = 10  // of one account in the queue of accounts
)

// turns lets hashes run as long as the sum of their weights is within the budget. The others wait in
// two queues, each in the order of arrival. The queue of accounts is for logins that the caller prefers,
// those from addresses where the user has logged in before. The queues are served in turn, so a
// flood of other logins delays a preferred one by at most one hash for each hash that is before it,
// and never takes its place. The preferred ones cannot stop the others either. An account that has all
// its places in the queue of accounts waits with the others.
type turns struct {
	mu       sync.Mutex
	free     int64   // weight; owned by mu, as all below
	accounts []*turn // preferred logins
	others   []*turn
	last     bool // the last hash that had waited was in the queue of accounts
}

// A turn is a hash that waits.
type turn struct {
	account string
	weight  int64
	come    chan struct{} // closed when the hash may run
}

var errQueueFull = errors.New("too many hashes wait")

// acquire waits until a hash may run. account is "" for a login that is not preferred.
func (t *turns) acquire(ctx context.Context, account string, weight int64) error {
	w, err := t.join(account, weight)
	if w == nil || err != nil {
		return err
	}
	select {
	case <-w.come:
		return nil
	case <-ctx.Done():
		t.leave(w)
		return ctx.Err()
	}
}

// join returns nil if the hash may run at once.
func (t *turns) join(account string, weight int64) (*turn, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.accounts)+len(t.others) == 0 && weight <= t.free {
		t.free -= weight
		return nil, nil
	}
	queue := &t.others
	if account != "" && len(t.accounts) < maxHashWaiting && t.waitingOf(account) < maxHashWaitingAccount {
		queue = &t.accounts
	}
	if len(*queue) >= maxHashWaiting {
		return nil, errQueueFull
	}
	w := &turn{account, weight, make(chan struct{})}
	*queue = append(*queue, w)
	return w, nil
}

func (t *turns) waitingOf(account string) int {
	n := 0
	for _, w := range t.accounts {
		if w.account == account {
			n++
		}
	}
	return n
}

// release ends a hash.
func (t *turns) release(weight int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.free += weight
	t.serve()
}

// leave ends the wait of w. If its turn has come at the same time, it goes to the next one.
func (t *turns) leave(w *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-w.come:
		t.free += w.weight
	default:
		isW := func(one *turn) bool { return one == w }
		t.accounts, t.others = slices.DeleteFunc(t.accounts, isW), slices.DeleteFunc(t.others, isW)
	}
	t.serve()
}

// serve lets hashes run while they fit. None overtakes one that does not fit, so that large ones get
// their turn.
func (t *turns) serve() {
	for {
		queue := t.next()
		if len(*queue) == 0 || (*queue)[0].weight > t.free {
			return
		}
		w := (*queue)[0]
		*queue = slices.Delete(*queue, 0, 1)
		t.free -= w.weight
		t.last = queue == &t.accounts
		close(w.come)
	}
}

// next returns the queue whose turn it is. It is empty only if both are.
func (t *turns) next() *[]*turn {
	if len(t.others) == 0 || len(t.accounts) > 0 && !t.last {
		return &t.accounts
	}
	return &t.others
}

// waiting returns how many hashes wait.
func (t *turns) waiting() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.accounts) + len(t.others)
}
