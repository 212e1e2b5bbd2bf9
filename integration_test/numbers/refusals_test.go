package numbers

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"keymill/issuer"
	"keymill/issuer/api"
	"keymill/issuer/refusal"
)

// TestUnknownAndWrongClientsTakeTheSameTime compares medians of interleaved runs, because other work on
// the machine delays all of them alike.
func TestUnknownAndWrongClientsTakeTheSameTime(t *testing.T) {
	r := openIssuer(t, newPlace(t), nil)
	r.register(t)
	once := func(id string) time.Duration {
		begun := time.Now()
		for range 20 {
			_, err := r.Token(t.Context(), issuer.TokenRequest{
				GrantType: "client_credentials", Client: issuer.Credentials{ClientID: id, Secret: "kms_wrong", Method: "client_secret_basic"},
			})
			if err == nil {
				t.Fatalf("client %q got a token with a wrong secret", id)
			}
		}
		return time.Since(begun)
	}
	var unknown, wrong, impossible []time.Duration
	for range 100 {
		unknown = append(unknown, once("wen"))
		wrong = append(wrong, once(web))
		impossible = append(impossible, once("w\nb"))
	}
	a, b, c := median(unknown), median(wrong), median(impossible)
	t.Logf("counted: 20 refusals: unknown client %v, wrong secret %v, impossible id %v", a, b, c)
	if max(a, b, c) > 2*min(a, b, c) {
		t.Error("the time of a refusal shows whether the client is unknown or its secret wrong")
	}
}

// TestPasswordChecksTakeTimeInProportionToTheLength: sixteen times the length takes about sixteen times
// as long. If a check took time in proportion to the square of the length, it would take 256 times as
// long, and a client could keep the server busy. The bound lies between the two, because caches and the
// garbage collector add up to a half on some machines.
func TestPasswordChecksTakeTimeInProportionToTheLength(t *testing.T) {
	r := openIssuer(t, newPlace(t), nil)
	check := func(password string) time.Duration {
		u := api.NewUser{Name: "alice", Password: refusal.Secret(password)}
		begun := threadTime(t)
		_, err := r.AddUser(t.Context(), u, "uid:0")
		took := threadTime(t) - begun
		if err == nil {
			t.Fatalf("the password %.30q… was accepted, so the time includes its hash", password)
		}
		return took
	}
	// Processor time and not wall time: on a busy machine every check that is longer than a time
	// slice is interrupted, and every shorter one is not.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const most = 4 << 10 // bytes of a password
	for _, unit := range []string{"12345678901234567890123", "passwordpassword123", "qwertyuiopasdfghjkl", "abcdefghijklmnopqrstuvwxyz", "alice12345password"} {
		long := strings.Repeat(unit, most/len(unit))
		short := strings.Repeat(unit, most/len(unit)/16)
		longest, shortest := time.Hour, time.Hour
		for range 50 { // the least time is that of the check; longer ones include other work
			longest, shortest = min(longest, check(long)), min(shortest, check(short))
		}
		ratio := float64(longest) / float64(shortest)
		t.Logf("counted: %d bytes of %q are checked in %v, a sixteenth of them in %v", len(long), unit, longest, shortest)
		if ratio > 64 {
			t.Errorf("%q: sixteen times the length takes %.1f times as long", unit, ratio)
		}
	}
}

// threadTime returns the processor time that the calling thread has used.
func threadTime(t *testing.T) time.Duration {
	t.Helper()
	var used unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Nano())
}
