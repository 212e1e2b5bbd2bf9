package verifiers

import (
	"encoding/base32"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"keymill/issuer/api"
)

// TestOnlyTheCredentialOfAPinnedVerifierIsOne: no other spelling, no other name, and after a removal none.
func TestOnlyTheCredentialOfAPinnedVerifierIsOne(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("orders-api"), w.add("7_x")
	if a.URL != testURL+"?verifier="+a.Credential || !strings.HasPrefix(a.Credential, "orders-api.") {
		t.Errorf("added %+v", a)
	}
	tagA, tagB := strings.TrimPrefix(a.Credential, "orders-api."), strings.TrimPrefix(b.Credential, "7_x.")
	raw, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(strings.ToUpper(tagA))
	if len(tagA) != 16 || err != nil || len(raw) != 10 || tagA == tagB {
		t.Errorf("tags %s, %s", tagA, tagB)
	}
	for credential, want := range map[string]string{
		a.Credential: "orders-api", b.Credential: "7_x",
		"": "", ".": "", "orders-api": "", "orders-api.": "", "." + tagA: "", tagA: "",
		"orders-api." + tagB: "", "7_x." + tagA: "", "orders." + tagA: "",
		strings.ToUpper(a.Credential): "", "orders-api." + strings.ToUpper(tagA): "",
		a.Credential + "=": "", a.Credential + " ": "", " " + a.Credential: "", a.Credential + "\x00": "",
		a.Credential[:len(a.Credential)-1]: "", a.Credential + "." + tagA: "", "orders-api.." + tagA: "",
		"orders-api." + tagA[:15] + "\xff": "", strings.Repeat("a", 1<<16) + "." + tagA: "", "orders-api." + strings.Repeat("a", 1<<16): "",
	} {
		if got := w.identify(credential); got != want {
			t.Errorf("identify(%.40q) = %q, want %q", credential, got, want)
		}
	}
	for n := range tagA { // each character counts
		other := []byte(tagA)
		other[n] = 'a' + (other[n]-'a'+1)%26
		if got := w.identify("orders-api." + string(other)); got != "" {
			t.Errorf("%s is taken for %s", other, tagA)
		}
	}
	w.restart()
	if got := w.identify(a.Credential); got != "orders-api" {
		t.Errorf("after a restart: %q", got)
	}
	if err := w.Remove(t.Context(), "orders-api", "uid:0"); err != nil {
		t.Fatal(err)
	}
	if got := w.identify(a.Credential); got != "" || w.identify(b.Credential) != "7_x" {
		t.Errorf("after the removal: %q", got)
	}
	if again := w.add("orders-api"); again.Credential != a.Credential {
		t.Error("the same name has another credential after it was added again")
	}
}

// TestATagIsTheSameInEveryVersion: services have the credential in their configuration. The tags were computed by another program:
//
//	printf '%s' 'keymill verifier v1' $DATABASE $NAME | openssl dgst -sha256 -mac HMAC -macopt hexkey:$SECRET -binary | head -c 10 | base32
func TestATagIsTheSameInEveryVersion(t *testing.T) {
	secret := []byte("0123456789abcdefghijklmnopqrstuv")
	tags := newTagger(secret, "347c310b1089e6e75eccdd7a7eaea5fc")
	for name, want := range map[string]string{"orders-api": "avswywxmajqednww", "7": "evlmg6ughzscvf2z"} {
		if got := (*tags)(name); string(got[:]) != want {
			t.Errorf("%s has the tag %s, want %s", name, got[:], want)
		}
	}
}

// TestNamesAndNumberOfVerifiersAreBounded.
func TestNamesAndNumberOfVerifiersAreBounded(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"", "-a", "_a", "A", "a.b", "a b", "ä", "a\n", "a/b", "<b>", "\x1b[31m", "\u202e", strings.Repeat("a", 64)} {
		_, err := w.Add(t.Context(), api.NewVerifier{Name: name}, "uid:0")
		if r := refused(t, err, "invalid_request"); len(name) > 1 && strings.Contains(r.Error(), name) {
			t.Errorf("the log has %q", r)
		}
	}
	w.add(strings.Repeat("a", 63))
	_, err := w.Add(t.Context(), api.NewVerifier{Name: strings.Repeat("a", 63)}, "uid:0")
	refused(t, err, "already_exists")
	for n := range MaxPinned - 1 {
		w.add(fmt.Sprintf("v%03d", n))
	}
	_, err = w.Add(t.Context(), api.NewVerifier{Name: "more"}, "uid:0")
	refused(t, err, "invalid_request")
	w.restart()
	if page := w.List("", 1000); len(page) != MaxPinned {
		t.Errorf("%d are listed", len(page))
	}
	if page := w.List("v100", 3); len(page) != 3 || page[0].Name != "v101" || page[2].Name != "v103" {
		t.Errorf("the page is %+v", page)
	}
	_, err = w.Verifier("more")
	refused(t, err, "not_found")
	refused(t, w.Remove(t.Context(), "more", "uid:0"), "not_found")
}

// TestARotationWaitsForThoseWhoCameLately and lack the spare, and for no others.
func TestARotationWaitsForThoseWhoCameLately(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		spare := w.spare()
		old := w.without(spare)
		for _, name := range []string{"has", "lacks", "never", "gone", "daily"} {
			w.add(name)
		}
		for range 3 {
			w.servedTo("daily", old)
			time.Sleep(24 * time.Hour)
		}
		w.servedTo("daily", old)
		w.servedTo("gone", old)
		time.Sleep(10*time.Minute + time.Second)
		w.fetch("has")
		w.servedTo("lacks", old)
		r := refused(t, w.CheckServed(spare), "not_served")
		if !strings.Contains(r.Description, "to daily, lacks yet") {
			t.Errorf("refused with %q", r.Description)
		}
		reach := w.Reach(spare)
		waited := map[string]bool{}
		for _, b := range reach.Behind {
			waited[b.Name] = b.Waited
			if (b.Last == nil) != (b.Name == "never") {
				t.Errorf("%s came last at %v", b.Name, b.Last)
			}
		}
		if reach.Pinned != 5 || reach.Served != 1 || fmt.Sprint(waited) != "map[daily:true gone:false lacks:true never:false]" {
			t.Errorf("reach: %+v", reach)
		}
		if pinned, behind := w.Count(); pinned != 5 || behind != 2 {
			t.Errorf("%d pinned, %d behind", pinned, behind)
		}
		v := w.verifier("daily")
		if v.Usual != "24h0m0s" || !v.Waited || v.WaitedUntil.Sub(*v.Last) != 48*time.Hour || !slices.Equal(v.Missing, []string{spare}) {
			t.Errorf("daily: %+v", v)
		}
		w.fetch("daily")
		w.fetch("lacks")
		if err := w.CheckServed(spare); err != nil {
			t.Error(err)
		}
		if v := w.verifier("daily"); v.Waited || v.WaitedUntil != nil || len(v.Missing) != 0 || !slices.Contains(v.Served, spare) {
			t.Errorf("daily: %+v", v)
		}
		if v := w.verifier("never"); v.Last != nil || v.Usual != "" || v.Served == nil || len(v.Missing) != 2 {
			t.Errorf("never: %+v", v)
		}
	})
}

// TestADowntimeEndsNoWait: no verifier can come while no server runs, so the time of it does not count.
func TestADowntimeEndsNoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		spare := w.spare()
		w.add("a")
		for range 3 {
			time.Sleep(5 * time.Minute)
			w.servedTo("a", w.without(spare))
		}
		for _, minutes := range []time.Duration{4, 5} {
			time.Sleep(minutes * time.Minute)
			if err := w.write(t.Context(), (*pinned).unsaved); err != nil {
				t.Fatal(err)
			}
			w.keys.Close()
			w.file.Close()
			time.Sleep(30 * time.Hour)
			w.reopen()
			refused(t, w.CheckServed(spare), "not_served")
		}
		v := w.verifier("a")
		if r := refused(t, w.CheckServed(spare), "not_served"); !strings.Contains(r.Description, "at most until "+v.WaitedUntil.Format(time.RFC3339)) {
			t.Errorf("refused with %q", r.Description)
		}
		if left := time.Until(*v.WaitedUntil); !v.Waited || v.Usual != "5m0s" || left < 58*time.Second || left > time.Minute {
			t.Errorf("%s left of %+v", left, v)
		}
		if reach := w.Reach(spare); len(reach.Behind) != 1 || !reach.Behind[0].Waited || !reach.Behind[0].WaitedUntil.Equal(*v.WaitedUntil) {
			t.Errorf("reach: %+v", reach)
		}
		if _, behind := w.Count(); behind != 1 {
			t.Errorf("%d are behind", behind)
		}
		time.Sleep(time.Minute + time.Second)
		if err := w.CheckServed(spare); err != nil {
			t.Error(err)
		}
		w.put(servedKey("a"), `{"last":"2026-01-01T00:00:00Z","kids":["x"],"intervals":[]}`) // of an earlier build
		w.restart()
		if err := w.CheckServed(spare); err != nil || w.verifier("a").Last == nil {
			t.Errorf("%+v, %v", w.verifier("a"), err)
		}
	})
}

// TestARefusalNamesWhatFits in its text.
func TestARefusalNamesWhatFits(t *testing.T) {
	w := newWorld(t)
	old := w.without(w.spare())
	for n := range 40 {
		name := fmt.Sprintf("a-very-long-name-of-a-verifier-that-fills-the-text-of-it-%02d", n)
		w.add(name)
		w.servedTo(name, old)
	}
	r := refused(t, w.CheckServed(w.spare()), "not_served")
	if !strings.Contains(r.Description, "-00, a-very") || !strings.Contains(r.Description, " and 37 others yet") || !strings.HasSuffix(r.Description, "or use force") || len(r.Description) >= 400 {
		t.Errorf("refused with %q", r.Description)
	}
}

// TestHoldersAreThoseWhoseLastSetHasTheKey.
func TestHoldersAreThoseWhoseLastSetHasTheKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		spare := w.spare()
		for _, name := range []string{"a", "b", "c"} {
			w.add(name)
		}
		w.fetch("b")
		w.fetch("a")
		w.observe("192.0.2.1", "late")
		time.Sleep(5*time.Minute + time.Second)
		w.observe("192.0.2.1", "now")
		w.observe("192.0.2.2", "now")
		w.servedTo("b", w.without(spare))
		pinned, observed := w.Holders("other", spare)
		if len(pinned) != 1 || pinned[0].Name != "a" || observed != 2 {
			t.Errorf("%+v, %d", pinned, observed)
		}
		if pinned, observed := w.Holders("other"); pinned == nil || len(pinned) != 0 || observed != 0 {
			t.Errorf("%+v, %d", pinned, observed)
		}
	})
}

// BenchmarkServed is what each answer with the key set costs.
func BenchmarkServed(b *testing.B) {
	w := newWorld(b)
	credential := w.add("orders-api").Credential
	set := w.set()
	b.Run("pinned", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			w.ServedPinned(credential, set)
		}
	})
	f := Fetch{Address: netip.MustParseAddr("2001:db8::7"), Set: set, Agent: strings.Repeat("Mozilla/5.0 ", 20)}
	b.Run("observed", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			w.Served(f)
		}
	})
}
