package console

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"keymill/cmd/keymill/internal/adminapi"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/storage/audit"
)

// TestAWatchReadsEachRecordOnce, keeps those that it is about, and says when it has read all.
func TestAWatchReadsEachRecordOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		pages := []audit.Page{
			{Records: []audit.Record{{Seq: 7, Action: "session.replay", Time: begin.Add(-25 * time.Hour)}, {Seq: 8, Action: "session.login", Time: begin}}, Next: audit.Cursor{Seq: 8}, More: true},
			{Records: []audit.Record{{Seq: 9, Action: "session.replay", Time: begin}, {Action: "session.replay", Time: begin}}, Next: audit.Cursor{Seq: 9, Key: "x"}},
			{Next: audit.Cursor{Seq: 9}},
		}
		var asked []audit.Query
		source := func(_ context.Context, q audit.Query) (audit.Page, error) {
			if asked = append(asked, q); len(asked) == 2 {
				return audit.Page{}, errors.New("the server is gone")
			}
			n := len(asked) - 1
			if n > 0 {
				n--
			}
			return pages[min(n, len(pages)-1)], nil
		}
		replays, _ := newWatches()
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { replays.follow(ctx, source, replayTime); close(done) }()
		synctest.Wait()
		if list, all := replays.since(begin.Add(-replayTime)); len(list) != 0 || all {
			t.Errorf("after one page: %v, %v", list, all)
		}
		time.Sleep(4 * watchEvery)
		list, all := replays.since(begin.Add(-replayTime))
		if len(list) != 1 || list[0].Seq != 9 || !all {
			t.Errorf("got %v, %v", list, all)
		}
		if asked[0].From.Seq != 0 || asked[2].From.Seq != 8 || asked[3].From != (audit.Cursor{Seq: 9}) || asked[0].Action != "session" || !asked[0].Since.Equal(begin.Add(-replayTime)) {
			t.Errorf("asked %+v", asked)
		}
		stop()
		<-done
	})
}

// TestAWatchThatIsRefusedAsksSeldom: with a token that is no longer valid, two watches that ask every five seconds would make
// the server refuse all programs of the address. They go on: the token may be replaced.
func TestAWatchThatIsRefusedAsksSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute-time.Second)
		defer cancel()
		refused, good := 0, 0
		w, _ := newWatches()
		w.follow(ctx, func(context.Context, audit.Query) (audit.Page, error) {
			if refused < 10 {
				refused++
				return audit.Page{}, terminal.WithHint(&adminapi.Error{}, "fetch another")
			}
			good++
			return audit.Page{}, nil
		}, time.Hour)
		if good != 5*12 { // each minute one that is refused, then every five seconds
			t.Errorf("%d were refused, and %d answered", refused, good)
		}
	})
}
