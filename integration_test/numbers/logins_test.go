package numbers

import (
	"encoding/json"
	"fmt"
	"math"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"keymill/integration_test/counts"
	"keymill/integration_test/server"
	"keymill/issuer/api"
)

// The budget of memory that docs/measurements.md states: residentAlways, and residentPerHash for each
// password that is hashed at the same time. A hash uses 19 MiB, and up to as much is garbage.
const (
	residentAlways  = 128_000_000
	residentPerHash = 40_000_000
	mostHashes      = 6 // at once, with any number of processors
)

func loginBudget() int64 {
	hashes := min(max(1, runtime.GOMAXPROCS(0)-1), mostHashes)
	return residentAlways + residentPerHash*int64(hashes)
}

const (
	// loginTime is how long a login may wait in the server. A login whose password was not hashed by
	// then is refused with 503. A fast machine hashes the whole queue in that time.
	loginTime = 25 * time.Second

	// tolerable bounds how slow a token may be for a service during the logins, if it is more than
	// twice the time beside a process that uses as many processors as hashing may use.
	tolerable = 25 * time.Millisecond

	idleProbes = 2000
)

// TestServicesGetTokensDuringManyLogins: when 500 users log in at once, each from an address of their
// own, the memory of hashing stays bounded and one processor is left for other requests.
func TestServicesGetTokensDuringManyLogins(t *testing.T) {
	n := counts.Of("parallel-logins")
	srv := newServer(t, "simplejwt:\n  client: "+web+"\nhttp:\n  trusted_proxies: [127.0.0.1/32]")
	people(t, srv, n)
	if err := srv.Start(); err != nil {
		t.Fatal(err)
	}
	service := srv.AddClient(t, "service", audience)
	probe := prober{newClient(t, srv.Issuer, 1), url.Values{
		"grant_type": {"client_credentials"}, "client_id": {service.ID}, "client_secret": {service.Secret},
	}}
	if _, err := probe.times(200, nil); err != nil { // warm up
		t.Fatal(err)
	}
	beside := func() []time.Duration {
		defer spin(max(1, runtime.GOMAXPROCS(0)-1))()
		took, err := probe.times(idleProbes/2, nil)
		if err != nil {
			t.Fatal(err)
		}
		return took
	}
	idle := beside()
	peak := watch(t, srv)
	done := make(chan struct{})
	var logins []login
	go func() {
		defer close(done)
		logins = storm(newClient(t, srv.Issuer, n), n)
	}()
	busy, err := probe.times(math.MaxInt, done)
	if err != nil {
		t.Fatal(err)
	}
	resident := peak()
	checkLogins(t, logins)
	checkStorm(t, append(idle, beside()...), busy, resident)
}

// The password of all users, and its hash, so that the test does not hash it for each of them.
const (
	password = "correct horse battery staple"
	hashed   = "$argon2id$v=19$m=19456,t=2,p=1$cmq/xsYSIGyPxhgAnCvz6w$g2HU8W/oi8v6PY+EVjp8LnXiTQc6t3Pbn08POHSmaOM"
)

// people adds n users to the store of a server that has never run.
func people(t *testing.T, srv *server.Server, n int) {
	t.Helper()
	r := openIssuer(t, placeOf(t, srv), nil)
	r.register(t)
	if err := inParallel(n, func(i int) error {
		_, err := r.ImportUser(t.Context(), api.ImportedUser{Name: userName(i), Hash: hashed}, "uid:0")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
}

func checkStorm(t *testing.T, idle, busy []time.Duration, m memory) {
	t.Helper()
	before, during := percentile(idle, 0.99), percentile(busy, 0.99)
	t.Logf("counted: p99 of /token %v beside other work (%d), %v beside logins (%d); at most %.0f MB resident",
		before.Round(10*time.Microsecond), len(idle), during.Round(10*time.Microsecond), len(busy), mega(m.resident))
	if len(busy) < 100 {
		t.Errorf("only %d tokens during the logins, which were over too soon for a result", len(busy))
	}
	if during > max(2*before, tolerable) {
		t.Errorf("p99 of /token is %v beside logins and %v beside other work", during, before)
	}
	if m.resident > loginBudget() {
		t.Errorf("%d bytes resident, the budget is %d", m.resident, loginBudget())
	}
}

// A login is one attempt and its answer.
type login struct {
	status int
	took   time.Duration
	err    error
}

// storm logs n users in at once.
func storm(c *client, n int) []login {
	logins := make([]login, n)
	begun := time.Now()
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			body := fmt.Sprintf(`{"username":%q,"password":%q}`, userName(i), password)
			status, answer, err := c.postFrom(addressOf(i), "/api/token/", "application/json", body)
			if err == nil {
				err = defined(status, answer, time.Since(begun))
			}
			logins[i] = login{status, time.Since(begun), err}
		})
	}
	all.Wait()
	return logins
}

// defined returns nil for an answer that a login may get under load, and otherwise an error.
func defined(status int, answer []byte, took time.Duration) error {
	var pair struct{ Access, Refresh, Detail string }
	err := json.Unmarshal(answer, &pair)
	switch {
	case err != nil:
	case status == 200 && pair.Access != "" && strings.HasPrefix(pair.Refresh, "kmr_"):
		return nil
	case status == 429 && pair.Detail != "":
		return nil
	case status == 503 && pair.Detail != "" && took >= loginTime:
		return nil
	}
	return fmt.Errorf("status %d: %.300s", status, answer)
}

func checkLogins(t *testing.T, logins []login) {
	t.Helper()
	answers, last := map[int]int{}, time.Duration(0)
	for _, l := range logins {
		if l.err != nil {
			t.Fatal(l.err)
		}
		answers[l.status]++
		last = max(last, l.took)
	}
	t.Logf("counted: %d logins at once: %d succeeded, %d refused because too many wait, %d not hashed in time, the last answer after %v",
		len(logins), answers[200], answers[429], answers[503], last.Round(time.Millisecond))
	if answers[200] == 0 {
		t.Error("no login succeeded")
	}
}

// A prober gets one token after the other.
type prober struct {
	client *client
	form   url.Values
}

// times returns how long each token took, for n tokens or until done is closed.
func (p prober) times(n int, done <-chan struct{}) ([]time.Duration, error) {
	var took []time.Duration
	for range n {
		select {
		case <-done:
			return took, nil
		default:
		}
		begun := time.Now()
		if _, err := p.client.token(p.form); err != nil {
			return took, err
		}
		took = append(took, time.Since(begun))
	}
	return took, nil
}

// percentile returns the smallest time that the share p of all times does not exceed.
func percentile(times []time.Duration, p float64) time.Duration {
	if len(times) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(times))
	return sorted[max(int(math.Ceil(p*float64(len(sorted)))), 1)-1]
}
