package issuer

import (
	"encoding/json"
	"strings"
	"testing"

	"keymill/issuer/outbox"
)

// withOutbox opens the Issuer of w again, with an Outbox, which it returns.
func (w *world) withOutbox() *outbox.Outbox {
	w.t.Helper()
	o, err := outbox.Open(w.t.Context(), outbox.Config{Store: w.store, Now: w.keys.Now, WallTime: w.keys.WallTime})
	if err != nil {
		w.t.Fatal(err)
	}
	if w.Issuer, err = Open(w.t.Context(), Config{URL: testURL, Store: w.store, Keys: w.keys, Outbox: o}); err != nil {
		w.t.Fatal(err)
	}
	return o
}

func TestWithoutAWebhookNoEventIsLeft(t *testing.T) {
	w := newWorld(t)
	w.user("alice", "7")
	if _, err := w.LogoutUser(t.Context(), "alice", "uid:0"); err != nil {
		t.Fatal(err)
	}
	if n := w.records("webhook/"); n != 0 {
		t.Errorf("%d events are left", n)
	}
}

// Each end leaves one event. A rotation leaves none.
func TestTheEndOfASessionLeavesAnEvent(t *testing.T) {
	w := newWorld(t)
	o := w.withOutbox()
	w.web()
	w.user("alice", "7")
	ctx := t.Context()
	for _, tt := range []struct {
		name string
		act  func(p *person) error
		want string // kind, or "" for none
		data map[string]string
	}{
		{"rotation", func(p *person) error { p.rotate(); return nil }, "", nil},
		{"replay", func(p *person) error {
			old := p.rotate()
			p.rotate()
			_, err := w.refresh(old)
			refused(t, err, "invalid_grant")
			return nil
		}, "session.replayed", map[string]string{"user_id": "7", "client_id": "web"}},
		{"one session", func(p *person) error { _, err := w.RevokeSession(ctx, p.explained(), "uid:0"); return err },
			"session.revoked", map[string]string{"user_id": "7", "client_id": "web"}},
		{"logout", func(*person) error { _, err := w.LogoutUser(ctx, "alice", "uid:0"); return err },
			"user.revoked", map[string]string{"user_id": "7"}},
		{"all of a client", func(*person) error { return w.RevokeClientSessions(ctx, "web", "uid:0") },
			"client.revoked", map[string]string{"client_id": "web"}},
	} {
		p := w.begin("7")
		session := p.explained()
		if err := tt.act(p); err != nil {
			t.Fatal(err)
		}
		got := must[[]outbox.Event](t)(o.Events(ctx, "", 1000))
		if tt.want == "" {
			if len(got) != 0 {
				t.Errorf("%s: %s", tt.name, got[0].Payload)
			}
			continue
		}
		if len(got) != 1 || got[0].Kind != tt.want {
			t.Errorf("%s: %+v", tt.name, got)
			continue
		}
		var sent struct {
			Data map[string]string `json:"data"`
		}
		if err := json.Unmarshal(got[0].Payload, &sent); err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(tt.want, "session.") {
			tt.data["session_id"] = session
		}
		for name, want := range tt.data {
			if sent.Data[name] != want {
				t.Errorf("%s: %s is %q, want %q", tt.name, name, sent.Data[name], want)
			}
		}
		if err := o.MarkSent(ctx, got[0].ID); err != nil {
			t.Fatal(err)
		}
	}
}

// explained returns the id of the session of the person's newest token.
func (p *person) explained() string {
	p.w.t.Helper()
	e, err := p.w.Explain(p.w.t.Context(), p.grant.Refresh)
	if err != nil || e.Session == nil {
		p.w.t.Fatalf("the explanation is %+v, %v, want one with a session", e, err)
	}
	return e.Session.ID
}
