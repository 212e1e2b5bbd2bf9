package jwks

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// uselessSets are key sets whose keys verify no token.
func uselessSets(t *testing.T) map[string]string {
	of := func(kid string, prime *big.Int) string {
		n := new(big.Int).Mul(prime, hexNumber(t, modp2048))
		return strings.Replace(rsaMember("AQAB", number(n)), `"k"`, `"`+kid+`"`, 1)
	}
	primes := testKeys().rsa.Primes
	sets := map[string]string{
		"a small factor":    `{"keys":[` + of("a", big.NewInt(262139)) + `]}`,
		"a prime in common": `{"keys":[` + of("a", primes[0]) + `,` + of("b", primes[1]) + `]}`,
		"empty":             `{"keys":[]}`,
		"same kid twice":    `{"keys":[{` + goodMembers + `},{` + goodMembers + `}]}`,
		"1,000 of a kind":   `{"keys":[` + strings.TrimSuffix(strings.Repeat(`{"kty":"AKP","kid":"k"},`, 1000), ",") + `]}`,
	}
	for _, bad := range badKeys() {
		sets[bad.name] = `{"keys":[` + bad.member + `]}`
	}
	return sets
}

// serving answers with a document and its ETag, also if the client names that tag.
func serving(document string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tag := fmt.Sprintf(`"%d"`, len(document))
		w.Header().Set("ETag", tag)
		w.Header().Set("Cache-Control", "max-age=300")
		if r.Header.Get("If-None-Match") == tag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Write([]byte(document))
	})
}

// TestASetWithoutAUsableKeyDoesNotReplaceAGoodOne, also if it is confirmed for as long as the good
// set may be used. Then it is an outage, until the issuer publishes a key again.
func TestASetWithoutAUsableKeyDoesNotReplaceAGoodOne(t *testing.T) {
	for name, document := range uselessSets(t) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var o origin
				o.publish(t, 5*time.Minute, edKey("ed"))
				good := o.answer
				r := follows(t, &o, RemoteConfig{})
				v := newVerifier(t, r, 10)
				wantSet(t, r, "ed")
				bound := time.Until(r.Status().UsableUntil)
				o.become(serving(document), false)
				for start := time.Now(); time.Since(start) < bound; pass(40 * time.Second) {
					if _, err := v.Verify(t.Context(), tokenOf("ed")); err != nil {
						t.Fatalf("after %v: %v", time.Since(start), err)
					}
				}
				if s := r.Status(); s.Err == nil || !strings.Contains(s.Err.Error(), "https://id.example/keys: the key set ") {
					t.Errorf("status %v", s.Err)
				}
				if _, err := v.Verify(t.Context(), tokenOf("ed")); !errors.Is(err, ErrUnavailable) {
					t.Errorf("after MaxStale: %v", err)
				}
				o.become(good, false)
				pass(2 * time.Minute)
				wantSet(t, r, "ed")
			})
		})
	}
}

// TestASetWithoutAUsableKeyIsAnOutageOnceItIsConfirmed: one such answer is not logged, and the
// attempt that decides about it comes after the cooldown.
func TestASetWithoutAUsableKeyIsAnOutageOnceItIsConfirmed(t *testing.T) {
	for _, tt := range []struct {
		name   string
		stale  time.Duration
		wrong  int64  // answers without a usable key
		levels string // of the lines by then
	}{
		{"one", 0, 1, ""},
		{"two", 0, 2, "WARN"},
		{"nine", 0, 9, "WARN"},
		{"until the set is too old", time.Minute, 9, "WARN ERROR"},
		{"a set that is never stale", -1, 1, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log lockedBuffer
				var o origin
				o.publish(t, 5*time.Minute, edKey("ed"))
				good, last := o.answer, time.Time{}
				var wrong atomic.Int64
				r := follows(t, &o, RemoteConfig{MaxStale: tt.stale, Log: slog.New(slog.NewTextHandler(&log, nil))})
				wantSet(t, r, "ed")
				o.become(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if wrong.Load() == tt.wrong {
						good.ServeHTTP(w, r)
						return
					}
					if wrong.Load() > 0 && time.Since(last) < DefaultCooldown {
						t.Errorf("asked again after %v", time.Since(last))
					}
					wrong.Add(1)
					last = time.Now()
					serving(`{"keys":[]}`).ServeHTTP(w, r)
				}), false)
				for wrong.Load() < tt.wrong {
					pass(time.Second)
				}
				_, levels := logged(log.copy())
				if got := strings.Join(levels, " "); got != tt.levels {
					t.Errorf("%q is logged, want %q", got, tt.levels)
				}
				pass(2 * time.Minute)
				wantSet(t, r, "ed")
				want := strings.TrimSpace(tt.levels + map[bool]string{true: " INFO"}[tt.levels != ""])
				if _, levels := logged(log.copy()); strings.Join(levels, " ") != want {
					t.Errorf("after it %q is logged, want %q", levels, want)
				}
			})
		})
	}
}

// TestAFirstSetWithoutAUsableKeyIsReplacedByTheNext: it replaces nothing, its skipped keys can be
// looked at, and the first token after the cooldown gets the key that it names.
func TestAFirstSetWithoutAUsableKeyIsReplacedByTheNext(t *testing.T) {
	for name, document := range uselessSets(t) {
		synctest.Test(t, func(t *testing.T) {
			var o origin
			o.become(serving(document), false)
			r := follows(t, &o, RemoteConfig{})
			v := newVerifier(t, r, 0)
			wantSet(t, r)
			if s := r.Status(); s.Err != nil || s.Skipped.Count == 0 && name != "empty" {
				t.Errorf("%s: %+v", name, s)
			}
			if _, err := v.Verify(t.Context(), tokenOf("ed")); !errors.Is(err, ErrUnknownKey) {
				t.Errorf("%s: %v", name, err)
			}
			o.publish(t, time.Minute, edKey("ed"))
			pass(DefaultCooldown)
			if _, err := v.Verify(t.Context(), tokenOf("ed")); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
}

// A lockedBuffer is a log that a test reads while it is written.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) copy() *bytes.Buffer {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.NewBuffer(bytes.Clone(b.text.Bytes()))
}
