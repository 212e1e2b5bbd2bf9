package webhook

import (
	"container/heap"
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"keymill/issuer/outbox"
)

const (
	maxParallel  = 4           // events that are sent at a time
	failurePause = time.Second // between two tries while the receiver fails
	maxPause     = time.Minute // for which a Retry-After stops all events
	warnEvery    = time.Minute // also the time between two looks for lost events
	pageSize     = 1000        // events that are read in one View
)

// A delivery is an event that is being delivered. The tries are counted in memory and begin
// again after a restart, because the receiver may have changed too.
type delivery struct {
	outbox.Event
	accepted bool // the receiver has it, and it must only be deleted
	tries    int
	due      time.Time // zero before the first try, so that new events go first
	outcome
}

// A queue has the waiting events of one Run. The goroutine of Run owns all fields. A
// goroutine that sends owns its delivery until it passes the delivery to done.
type queue struct {
	*Sender
	known   map[string]*delivery // id → waiting or being sent
	due     deliveries           // those that wait
	sending int                  // number of those that are being sent
	held    bool                 // this server sends
	done    chan *delivery

	failing     bool      // the last try failed
	warned      bool      // and a log line said so
	pausedUntil time.Time // no try starts before
	nextPoll    time.Time
	nextWarning time.Time
	nextLost    time.Time // of looks for lost events
}

func newQueue(s *Sender) *queue {
	return &queue{Sender: s, held: s.hold == nil, known: make(map[string]*delivery), done: make(chan *delivery, maxParallel)}
}

// takeTurn asks for the lease. A server that loses it forgets the events, because another one sends them.
func (q *queue) takeTurn(ctx context.Context) {
	if q.hold == nil {
		return
	}
	held, err := q.hold(ctx)
	q.noteFault(ctx, "webhook: the lease cannot be renewed; trying again", err)
	switch {
	case held && !q.held:
		q.log.Info("webhook: this server sends events now", "receiver", q.host)
		q.nextPoll = time.Time{}
	case !held && q.held:
		q.log.Info("webhook: another server sends events now", "receiver", q.host)
		for _, d := range q.due {
			delete(q.known, d.ID)
		}
		q.due, q.failing, q.warned, q.pausedUntil = nil, false, false, time.Time{}
		q.oldest.Store(nil)
	}
	q.held = held
}

// poll adds new events to the queue. It reads the whole outbox each time: ids are ordered by
// the time of the decision, and an earlier decision may be committed after a later one. A long
// queue is read less often: 10,000 events, 4 MB, every eleven seconds.
func (q *queue) poll(ctx context.Context) {
	now := time.Now()
	if now.Before(q.nextPoll) {
		return
	}
	q.noteFault(ctx, "webhook: events cannot be read; trying again", q.read(ctx))
	q.nextPoll = now.Add(time.Second * time.Duration(1+len(q.known)/pageSize))
	if now.Before(q.nextLost) {
		return
	}
	q.nextLost = now.Add(warnEvery)
	lost, err := q.outbox.ReportLost(ctx)
	q.noteFault(ctx, "webhook: events cannot be counted; trying again", err)
	if err == nil && lost > 0 {
		q.log.Error("webhook: the queue was full, and events were lost", "lost", lost, "waiting", len(q.known), "receiver", q.host)
	}
}

func (q *queue) read(ctx context.Context) error {
	if !q.held {
		return nil
	}
	for after := ""; ; {
		page, err := q.outbox.Events(ctx, after, pageSize)
		if err != nil {
			return err
		}
		if after == "" {
			q.noteOldest(page)
		}
		for _, e := range page {
			after = e.ID
			if q.known[e.ID] == nil {
				d := &delivery{Event: e}
				q.known[e.ID] = d
				heap.Push(&q.due, d)
			}
		}
		if len(page) < pageSize {
			return nil
		}
	}
}

// noteOldest keeps the first event of the first page for Oldest, without its payload.
func (q *queue) noteOldest(page []outbox.Event) {
	if len(page) == 0 {
		q.oldest.Store(nil)
		return
	}
	q.oldest.Store(&outbox.Event{ID: page[0].ID, Time: page[0].Time})
}

// start sends due events, as many as may be sent at a time.
func (q *queue) start(ctx context.Context) {
	now, parallel := time.Now(), maxParallel
	if q.failing {
		parallel = 1
	}
	if !q.held || now.Before(q.pausedUntil) {
		return
	}
	for q.sending < parallel && len(q.due) > 0 && !q.due[0].due.After(now) {
		d := heap.Pop(&q.due).(*delivery)
		q.sending++
		go func() {
			d.outcome = q.try(ctx, d)
			q.done <- d
		}()
	}
}

// finish handles the outcome of a try. A try that was interrupted because the server stops, or because the store has
// ended, is not a failure.
func (q *queue) finish(ctx context.Context, d *delivery) {
	q.sending--
	switch {
	case d.failure != "" && (ctx.Err() != nil || d.ended):
	case d.gone, d.failure != "" && !q.held:
		delete(q.known, d.ID) // it is another server's
	case d.failure != "":
		q.failed(d, time.Now())
	case d.dropped != "":
		q.dropped(d, time.Now())
	default:
		q.sent(d)
	}
}

func (q *queue) sent(d *delivery) {
	delete(q.known, d.ID)
	q.log.Debug("webhook: event sent", "event", d.ID, "kind", d.Kind, "tries", d.tries+1)
	if q.warned {
		q.log.Info("webhook: the receiver accepts events again", "waiting", len(q.known), "receiver", q.host)
	}
	q.failing, q.warned, q.pausedUntil = false, false, time.Time{}
}

func (q *queue) dropped(d *delivery, now time.Time) {
	delete(q.known, d.ID)
	q.log.Error("webhook: event dropped", "event", d.ID, "kind", d.Kind, "why", d.outcome.dropped, "receiver", q.host)
	q.slowDown(now, 0)
}

func (q *queue) failed(d *delivery, now time.Time) {
	d.tries++
	pause := pauseAfter(d.tries, d.retryAfter, giveUpAfter-q.outbox.Age(d.Event))
	d.due = now.Add(pause)
	heap.Push(&q.due, d)
	q.slowDown(now, d.retryAfter)
	if q.warn(slog.LevelWarn, "webhook: event not sent; trying again", "event", d.ID, "kind", d.Kind, "why", d.failure,
		"tries", d.tries, "again_in", pause.Round(time.Second), "waiting", len(q.known), "receiver", q.host) {
		q.warned = true
	}
}

// slowDown makes a receiver that fails get one event at a time, after a pause.
func (q *queue) slowDown(now time.Time, retryAfter time.Duration) {
	q.failing, q.pausedUntil = true, now.Add(max(failurePause, min(retryAfter, maxPause)))
}

// noteFault logs an error of the store, unless the server stops, which the end of the store brings about too.
func (q *queue) noteFault(ctx context.Context, message string, err error) {
	if err != nil && ctx.Err() == nil && !q.outbox.Ended(err) {
		q.warn(slog.LevelError, message, "error", err)
	}
}

// warn writes a line with that level at most once a minute, and the others with level debug.
// It returns true if it has written with that level.
func (q *queue) warn(level slog.Level, message string, facts ...any) bool {
	now := time.Now()
	warned := !now.Before(q.nextWarning)
	if warned {
		q.nextWarning = now.Add(warnEvery)
	} else {
		level = slog.LevelDebug
	}
	q.log.Log(context.Background(), level, message, facts...)
	return warned
}

// wait waits for the tries that are running. Their context has ended.
func (q *queue) wait() {
	for ; q.sending > 0; q.sending-- {
		<-q.done
	}
	q.client.CloseIdleConnections()
}

// pauseAfter returns the pause after that many tries. It is longer if the receiver asks for
// it, and never longer than left, the time until the last try.
func pauseAfter(tries int, retryAfter, left time.Duration) time.Duration {
	var pause time.Duration
	switch tries {
	case 1:
		pause = 5 * time.Second
	case 2:
		pause = 30 * time.Second
	case 3:
		pause = 2 * time.Minute
	case 4:
		pause = 10 * time.Minute
	default:
		pause = time.Hour
	}
	pause = max(pause, retryAfter)
	pause += rand.N(pause / 4) // otherwise events that failed together are tried together
	if left > 0 {
		pause = min(pause, left)
	}
	return pause
}

// deliveries is a heap: first the deliveries without a try, oldest first, then the others by
// the time when they are due.
type deliveries []*delivery

func (l deliveries) Len() int      { return len(l) }
func (l deliveries) Swap(a, b int) { l[a], l[b] = l[b], l[a] }
func (l *deliveries) Push(d any)   { *l = append(*l, d.(*delivery)) }

func (l deliveries) Less(a, b int) bool {
	if !l[a].due.Equal(l[b].due) {
		return l[a].due.Before(l[b].due)
	}
	return l[a].ID < l[b].ID
}

func (l *deliveries) Pop() any {
	last := (*l)[len(*l)-1]
	*l = (*l)[:len(*l)-1]
	return last
}
