package verifiers

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"keymill/issuer/outbox"
	"keymill/keystore"
	"keymill/storage/audit"
)

// warnings returns the audit records of warnings.
func (w *world) warnings() []audit.Record {
	w.t.Helper()
	p, err := audit.Read(context.Background(), w.keys.Store(), audit.Query{Filter: audit.Filter{Action: "verifier.behind"}, Limit: 100})
	if err != nil {
		w.t.Fatal(err)
	}
	return p.Records
}

// TestASpareThatSomeLackIsWarnedOfOnce at Sign − max-age, in the log, in the audit log and to the webhook, also over a
// restart; and the key signs on time.
func TestASpareThatSomeLackIsWarnedOfOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logBuffer
		w := newWorld(t)
		w.log = slog.NewTextHandler(&log, nil)
		w.open()
		spare := w.spares()[0]
		for _, name := range []string{"has", "lacks", "lacks-too", "gone", "never"} {
			w.add(name)
		}
		old := w.without(spare.KID)
		w.servedTo("gone", old)
		time.Sleep(time.Until(spare.Sign.Add(-5 * day)))
		for _, name := range []string{"lacks", "lacks-too", "lacks", "lacks-too"} {
			w.servedTo(name, old)
			time.Sleep(day)
		}
		w.fetch("has")
		events := must(outbox.Open(t.Context(), outbox.Config{Store: w.store, Now: w.keys.Now, WallTime: w.keys.WallTime}))
		w.cfg.Outbox = events
		ctx, cancel := context.WithCancel(t.Context())
		keysEnded := make(chan error, 1)
		go func() { keysEnded <- w.keys.Run(ctx) }()
		end := w.run()
		time.Sleep(time.Until(spare.Sign.Add(-5*time.Minute - time.Second)))
		synctest.Wait()
		if len(w.warnings()) > 0 {
			t.Error("warned too early")
		}
		w.store.fail(errInjected)
		time.Sleep(80 * time.Second)
		w.store.fail(nil)
		time.Sleep(61 * time.Second)
		warned := w.warnings()
		if len(warned) != 1 || warned[0].Target != spare.KID || warned[0].By != "system" || warned[0].Detail["count"] != "2" ||
			warned[0].Detail["verifiers"] != "lacks, lacks-too" || warned[0].Detail["alg"] != "EdDSA" || warned[0].Detail["sign"] != spare.Sign.Format(time.RFC3339) {
			t.Errorf("warned %+v", warned)
		}
		list := must(events.Events(t.Context(), "", 10))
		if len(list) != 1 || list[0].Kind != "verifier.behind" || !strings.Contains(string(list[0].Payload), `"kid":"`+spare.KID+`"`) {
			t.Errorf("events %s", list)
		}
		if want := fmt.Sprintf(`{"EdDSA":"%s"}`, spare.KID); w.record(behindKey) != want {
			t.Errorf("the record is %s", w.record(behindKey))
		}
		w.stop(end)
		w.open()
		end = w.run()
		time.Sleep(90 * time.Second)
		if n := strings.Count(log.String(), "level=WARN"); n != 1 || !strings.Contains(log.String(), `verifiers="lacks, lacks-too"`) {
			t.Errorf("%d warnings in\n%s", n, &log)
		}
		w.stop(end)
		w.put(behindKey, "[]")
		w.open()
		end = w.run()
		time.Sleep(time.Minute)
		w.stop(end)
		if n := strings.Count(log.String(), "level=WARN"); n != 2 || w.record(behindKey) != "[]" || len(w.damaged) != 1 {
			t.Errorf("with a damaged record: %d warnings, %v; the record is %s", n, w.damaged, w.record(behindKey))
		}
		time.Sleep(time.Until(spare.Sign))
		synctest.Wait()
		for _, k := range must(w.keys.List(t.Context())) {
			if k.KID == spare.KID && k.Stage != keystore.Active {
				t.Errorf("the key is %s at its time", k.Stage)
			}
		}
		cancel()
		<-keysEnded
	})
}
