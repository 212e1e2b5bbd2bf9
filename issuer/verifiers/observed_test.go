package verifiers

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestObservedVerifiersAreToldApartByNetworkProxyAndProgram, and shown with the latest first.
func TestObservedVerifiersAreToldApartByNetworkProxyAndProgram(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		begin := time.Now()
		spare := w.spare()
		fetch := func(address, through, agent string) {
			f := Fetch{Address: netip.MustParseAddr(address), Agent: agent, Set: w.without(spare)}
			if through != "" {
				f.Through = netip.MustParseAddr(through)
			}
			w.Served(f)
			time.Sleep(time.Second)
		}
		long := strings.Repeat("a", 99) + "é" // 101 bytes
		fetch("192.0.2.1", "", "one")
		fetch("::ffff:192.0.2.1", "", "one")
		fetch("192.0.2.1", "", "two")
		fetch("192.0.2.1", "10.0.0.5", "one")
		fetch("192.0.2.1", "::ffff:10.0.0.5", "one")
		fetch("2001:db8::1", "", "one")
		fetch("2001:db8:0:0:ffff::2%eth0", "", "one")
		fetch("2001:db8:0:1::1", "", "one")
		fetch("2001:db8:0:2::1", "2001:db8:0:2::1", "one")
		fetch("2001:db8:0:2::2", "2001:db8:0:2::2", "one")
		fetch("192.0.2.1", "2001:db8:0:2::2", "one")
		fetch("192.0.2.9", "", long+"x")
		fetch("192.0.2.9", "", long+"y")
		fetch("192.0.2.9", "", "<b>\x1b[31m\u202e\xff")
		w.observe("192.0.2.1", "two")
		var got []string
		for _, o := range w.Observed() {
			got = append(got, fmt.Sprintf("%s|%s|%s|%d|%d", o.Address, o.Through, o.Agent, o.Fetches, len(o.Missing)))
			if o.First.Before(begin.Truncate(time.Second)) || o.Last.Before(o.First) || o.Missing == nil {
				t.Errorf("observed %+v", o)
			}
		}
		want := []string{
			"192.0.2.1||two|2|0", "192.0.2.9||<b>\x1b[31m\u202e\ufffd|1|1", "192.0.2.9||" + long[:99] + "\ufffd|2|1",
			"192.0.2.1|2001:db8:0:2::2|one|1|1", "2001:db8:0:2::|2001:db8:0:2::|one|2|1", "2001:db8:0:1::||one|1|1", "2001:db8::||one|2|1", "192.0.2.1|10.0.0.5|one|2|1", "192.0.2.1||one|2|1",
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if _, err := json.Marshal(w.Observed()); err != nil {
			t.Error(err)
		}
		w.restart()
		if list := w.Observed(); list == nil || len(list) != 0 {
			t.Errorf("after a restart: %v", list)
		}
	})
}

// TestAStrangerOfManyAddressesCostsNothing: ten thousand addresses fetch for an hour, each with other names of its
// program, and forged credentials. The memory stays flat, nothing is written, and no rotation waits.
func TestAStrangerOfManyAddressesCostsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		credential := w.add("orders-api").Credential
		w.fetch("orders-api")
		end := w.run()
		time.Sleep(2 * time.Minute) // its visit is written
		set, old, updates := w.set(), w.without(w.spare()), w.store.count()
		addresses := make([]netip.Addr, 10_000)
		for n := range addresses {
			addresses[n] = netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 0, 0, byte(n >> 8), byte(n), 15: 1})
		}
		var after []uint64
		forged := credential[:len(credential)-1] + "="
		for round := range 12 {
			for n, a := range addresses {
				if w.ServedPinned(forged, old) {
					t.Fatal("a forged credential is that of a verifier")
				}
				w.Served(Fetch{Address: a, Agent: fmt.Sprint("curl/", round, n%3), Set: old})
			}
			time.Sleep(5 * time.Minute)
			after = append(after, heap())
		}
		if first, last := after[0], after[len(after)-1]; last > first+64<<10 {
			t.Errorf("the heap grew from %d to %d bytes: %d", first, last, after)
		}
		if n := len(w.Observed()); n != maxObserved || n != len(w.observed.callers) {
			t.Errorf("%d are observed", n)
		}
		if n := w.store.count(); n != updates {
			t.Errorf("%d writes", n-updates)
		}
		if err := w.CheckServed(w.spare()); err != nil {
			t.Error(err)
		}
		if v := w.verifier("orders-api"); len(v.Missing) != 0 || v.Waited {
			t.Errorf("orders-api: %+v", v)
		}
		w.servedTo("orders-api", set)
		end()
	})
}

// TestAnObservedVerifierKeepsNothingElseOfItsRequest: the name of a program is a part of the request's header, which has
// up to a megabyte.
func TestAnObservedVerifierKeepsNothingElseOfItsRequest(t *testing.T) {
	w := newWorld(t)
	set, before := w.set(), heap()
	for n := range maxObserved {
		header := strings.Repeat(fmt.Sprint(n%10), 64<<10)
		w.Served(Fetch{Address: netip.AddrFrom4([4]byte{192, 0, byte(n >> 8), byte(n)}), Agent: header[n:], Set: set})
	}
	if after := heap(); after > before+4<<20 {
		t.Errorf("the heap grew from %d to %d bytes", before, after)
	}
	if n := len(w.Observed()); n != maxObserved {
		t.Errorf("%d are observed", n)
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
