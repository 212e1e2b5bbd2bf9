package endpoint

import (
	"container/heap"
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"keymill/issuer/outbox"
)

const (
	maxSends  = 4           // at a time
	respite   = time.Second // between two tries while the receiver fails
	maxQuiet  = time.Minute // for which a Retry-After holds everybody back
	loudEvery = time.Minute // a warning, a look for lost events
	lookBatch = 1000        // events read in one View
)

// A delivery is an event on its way. Its tries are counted in memory: after a restart the
// receiver may be another one, too.
type delivery struct {
	outbox.Event
	taken bool // the receiver has it, and only the store does not know
	tries int
	due   time.Time // zero before the first try, so that new events go first
	outcome
}

// A webhookQueue is what one Run knows of the events that wait. Its goroutine owns it
// all; those that send have their delivery, until it comes back through done.
type webhookQueue struct {
	*Webhook
	known map[string]*delivery // id → what is waiting or under way
	due   deliveries           // those that are not under way
	out   int                  // how many are
	done  chan *delivery

	failing  bool      // the last try failed
	alarmed  bool      // and a warning said so
	quiet    time.Time // no try starts before
	nextLook time.Time
	nextLoud time.Time // of warnings
	nextLost time.Time // of looks for lost events
}

func newWebhookQueue(w *Webhook) *webhookQueue {
	return &webhookQueue{Webhook: w, known: make(map[string]*delivery), done: make(chan *delivery, maxSends)}
}

// look takes in what is new. The whole queue is read each time, since ids are ordered by
// the instants of decisions, and a decision may be committed after a younger one. A long
// queue is read less often: 10,000 events, 4 MB, once in eleven seconds.
func (q *webhookQueue) look(ctx context.Context) {
	now := time.Now()
	if now.Before(q.nextLook) {
		return
	}
	if err := q.read(ctx); err != nil && ctx.Err() == nil {
		q.loud(slog.LevelError, "webhook: events cannot be read; trying again", "error", err)
	}
	q.nextLook = now.Add(time.Second * time.Duration(1+len(q.known)/lookBatch))
	if now.Before(q.nextLost) {
		return
	}
	q.nextLost = now.Add(loudEvery)
	lost, err := q.outbox.Lost(ctx)
	switch {
	case err != nil && ctx.Err() == nil:
		q.loud(slog.LevelError, "webhook: events cannot be counted; trying again", "error", err)
	case lost > 0:
		q.log.Error("webhook: the queue was full, and events were lost", "lost", lost, "waiting", len(q.known), "receiver", q.host)
	}
}

func (q *webhookQueue) read(ctx context.Context) error {
	for after := ""; ; {
		page, err := q.outbox.Events(ctx, after, lookBatch)
		if err != nil {
			return err
		}
		for _, e := range page {
			after = e.ID
			if q.known[e.ID] == nil {
				d := &delivery{Event: e}
				q.known[e.ID] = d
				heap.Push(&q.due, d)
			}
		}
		if len(page) < lookBatch {
			return nil
		}
	}
}

// start sends what is due, as far as there is room for it.
func (q *webhookQueue) start(ctx context.Context) {
	now, room := time.Now(), maxSends
	if q.failing {
		room = 1
	}
	if now.Before(q.quiet) {
		return
	}
	for q.out < room && len(q.due) > 0 && !q.due[0].due.After(now) {
		d := heap.Pop(&q.due).(*delivery)
		q.out++
		go func() {
			d.outcome = q.try(ctx, d)
			q.done <- d
		}()
	}
}

// finish learns from a try. What a stop of the server broke off is no failure.
func (q *webhookQueue) finish(ctx context.Context, d *delivery) {
	q.out--
	switch {
	case d.why != "" && ctx.Err() != nil:
	case d.why != "":
		q.failed(d, time.Now())
	case d.dropped != "":
		q.dropped(d, time.Now())
	default:
		q.sent(d)
	}
}

func (q *webhookQueue) sent(d *delivery) {
	delete(q.known, d.ID)
	q.log.Debug("webhook: event sent", "event", d.ID, "kind", d.Kind, "tries", d.tries+1)
	if q.alarmed {
		q.log.Info("webhook: the receiver takes events again", "waiting", len(q.known), "receiver", q.host)
	}
	q.failing, q.alarmed, q.quiet = false, false, time.Time{}
}

func (q *webhookQueue) dropped(d *delivery, now time.Time) {
	delete(q.known, d.ID)
	q.log.Error("webhook: event dropped", "event", d.ID, "kind", d.Kind, "why", d.dropped, "receiver", q.host)
	q.slow(now, 0)
}

func (q *webhookQueue) failed(d *delivery, now time.Time) {
	d.tries++
	pause := pauseAfter(d.tries, d.asked, giveUpAfter-q.outbox.Age(d.Event))
	d.due = now.Add(pause)
	heap.Push(&q.due, d)
	q.slow(now, d.asked)
	if q.loud(slog.LevelWarn, "webhook: event not sent; trying again", "event", d.ID, "kind", d.Kind, "why", d.why,
		"tries", d.tries, "again_in", pause.Round(time.Second), "waiting", len(q.known), "receiver", q.host) {
		q.alarmed = true
	}
}

// slow spares a receiver that fails: one at a time, and not at once.
func (q *webhookQueue) slow(now time.Time, asked time.Duration) {
	q.failing, q.quiet = true, now.Add(max(respite, min(asked, maxQuiet)))
}

// loud writes a line at most once a minute, and the rest for those who debug.
func (q *webhookQueue) loud(level slog.Level, message string, facts ...any) bool {
	now := time.Now()
	speak := !now.Before(q.nextLoud)
	if speak {
		q.nextLoud = now.Add(loudEvery)
	} else {
		level = slog.LevelDebug
	}
	q.log.Log(context.Background(), level, message, facts...)
	return speak
}

// wait lets what is under way end; it has been told to.
func (q *webhookQueue) wait() {
	for ; q.out > 0; q.out-- {
		<-q.done
	}
	q.client.CloseIdleConnections()
}

// pauseAfter is the time between the try with that number and the next: longer if the
// receiver asked for it, and never past the last instant at which a try is made, which is
// left away.
func pauseAfter(tries int, asked, left time.Duration) time.Duration {
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
	pause = max(pause, asked)
	pause += rand.N(pause / 4) // else all that failed together comes back together
	if left > 0 {
		pause = min(pause, left)
	}
	return pause
}

// deliveries is a heap: first those that were not tried yet, oldest first, then by when
// they are due.
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
