package verifiers

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"keymill/issuer/api"
	"keymill/storage"
)

// TestDamagedRecordsCostOnlyThemselves: each is reported, others work, and nothing is written over one.
func TestDamagedRecordsCostOnlyThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		names := []string{"a", "b", "c", "d"}
		for _, name := range names {
			w.add(name)
			w.fetch(name)
		}
		end := w.run()
		time.Sleep(2 * time.Minute)
		w.stop(end)
		credential := w.verifier("b").Credential
		damaged := map[string]string{
			nameKey("a"): "{}", servedKey("b"): `{"last":"x"}`, servedKey("x"): w.record(servedKey("c")), behindKey: "[]", servedKey("d"): "",
		}
		for key, value := range damaged {
			w.put(key, value)
		}
		w.restart()
		var found []string
		for _, err := range w.damaged {
			var d *storage.DamageError
			if !errors.As(err, &d) || !errors.Is(err, storage.ErrDamaged) {
				t.Fatal(err)
			}
			found = append(found, d.Key)
		}
		// served/a has no verifier, because its name cannot be read.
		if got := strings.Join(found, " "); got != "verifier/name/a served/a served/b served/x behind" {
			t.Errorf("reported: %s", got)
		}
		if list := w.List("", 10); len(list) != 3 || list[0].Last != nil || list[1].Last == nil || list[2].Last != nil {
			t.Errorf("listed: %+v", list)
		}
		if w.identify(credential) != "b" {
			t.Error("a verifier whose visit is damaged has lost its credential")
		}
		_, err := w.Add(t.Context(), api.NewVerifier{Name: "a"}, "uid:0")
		if !errors.Is(err, storage.ErrDamaged) && !strings.Contains(err.Error(), "verifier/name/a") {
			t.Errorf("added over a damaged record: %v", err)
		}
		end = w.run()
		for _, name := range names[1:] {
			w.fetch(name)
		}
		w.warned = map[string]string{}
		time.Sleep(2 * time.Minute)
		w.stop(end)
		for key, value := range damaged {
			if key != servedKey("d") && w.record(key) != value {
				t.Errorf("%s was written again: %s", key, w.record(key))
			}
		}
		if w.record(servedKey("d")) == "" || w.verifier("b").Last == nil {
			t.Error("other visits were not written or noted")
		}
		if err := w.Remove(t.Context(), "b", "uid:0"); err != nil {
			t.Fatal(err)
		}
		w.add("b")
		if w.record(servedKey("b")) != "" {
			t.Error("a removal leaves the damaged record")
		}
	})
}

// TestDamageThatAWriteFindsIsLeftAsItIs, and costs no other verifier its write.
func TestDamageThatAWriteFindsIsLeftAsItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.add("a")
		w.add("b")
		const damaged = "not a record with a tag"
		if err := w.file.Update(t.Context(), func(tx storage.Tx) error { return tx.Put(servedKey("a"), []byte(damaged)) }); err != nil {
			t.Fatal(err)
		}
		end := w.run()
		for range 5 {
			w.fetch("a")
			w.fetch("b")
			time.Sleep(time.Minute)
		}
		w.stop(end)
		var left []byte
		if err := w.file.View(t.Context(), func(r storage.Reader) (err error) { left, err = r.Get(servedKey("a")); return err }); err != nil {
			t.Fatal(err)
		}
		if string(left) != damaged || w.record(servedKey("b")) == "" || w.verifier("a").Last == nil {
			t.Errorf("the damaged record is %q, the other one %s", left, w.record(servedKey("b")))
		}
		if len(w.damaged) != 1 || !errors.Is(w.damaged[0], storage.ErrDamaged) {
			t.Errorf("reported: %v", w.damaged)
		}
		if err := w.Remove(t.Context(), "a", "uid:0"); err != nil {
			t.Fatal(err)
		}
		w.add("a")
		end = w.run()
		w.fetch("a")
		time.Sleep(time.Minute)
		w.stop(end)
		if w.record(servedKey("a")) == "" {
			t.Error("a removal and an addition do not mend the record")
		}
	})
}

// TestALostSecretIsDamage, and is not replaced by another one.
func TestALostSecretIsDamage(t *testing.T) {
	w := newWorld(t)
	w.add("a")
	sealed := w.record(secretKey)
	for _, value := range []string{"", "x", sealed[:len(sealed)-1]} {
		w.put(secretKey, value)
		if _, err := Open(t.Context(), w.config()); err == nil || !strings.Contains(err.Error(), secretKey) {
			t.Errorf("%q: %v", value, err)
		}
		if _, err := w.Add(t.Context(), api.NewVerifier{Name: "b"}, "uid:0"); value == "" && err != nil {
			t.Error(err) // the secret is in memory
		}
	}
}
