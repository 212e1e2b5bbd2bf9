package webhook

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"keymill/issuer"
	"keymill/issuer/api"
	"keymill/issuer/outbox"
	"keymill/issuer/refusal"
	"keymill/jwks"
	"keymill/keystore"
	"keymill/storage"
	"keymill/storage/audit"
	"keymill/storage/bolt"
	"keymill/storage/storagetest"
)

// A world is a Sender with a real store, real keys, and a receiver that verifies what it
// gets. It works in a synctest bubble.
type world struct {
	t        *testing.T
	path     string
	store    storage.Store
	issuer   *issuer.Issuer
	outbox   *outbox.Outbox
	sender   *Sender
	receiver *receiver
	log      *logBuffer
	stop     func() // ends Run and waits for it
}

// The secret is that of the published test vector. The path is a secret of the receiver.
const (
	hookSecret = refusal.Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	hookPath   = "/hooks/T0pS3cretPath"
	hookData   = "somebodys-session"
)

// newWorld sends to url, or in memory if it is empty.
func newWorld(t *testing.T, url string) *world {
	t.Helper()
	dir, err := os.MkdirTemp(storeDir(), "webhook-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	w := &world{t: t, path: filepath.Join(dir, "keymill.db"), log: &logBuffer{}, receiver: newReceiver(t)}
	w.open(url)
	t.Cleanup(func() { w.store.Close() })
	t.Cleanup(w.logsNothingSecret)
	return w
}

// storeDir is in memory if the system has such a directory: a test of three days looks for
// events some hundred thousand times, and other tests check when commits are synced.
func storeDir() string {
	if _, err := os.Stat("/dev/shm"); err != nil || os.Getenv("TMPDIR") != "" {
		return ""
	}
	return "/dev/shm"
}

// open does what a start of the server does.
func (w *world) open(url string) {
	w.t.Helper()
	file, err := bolt.Open(w.path, bolt.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	cfg := keystore.Config{
		Algorithms: []string{"EdDSA"}, RotateEvery: 720 * time.Hour, Propagation: time.Hour, MaxAge: 5 * time.Minute,
	}
	if _, err := keystore.Create(w.t.Context(), file, cfg, "test", "test"); err != nil && !errors.Is(err, keystore.ErrExists) {
		w.t.Fatal(err)
	}
	keys, err := keystore.Open(w.t.Context(), storagetest.RerunningIfAsked(file), cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.store = keys.Store()
	w.outbox, err = outbox.Open(w.t.Context(), outbox.Config{Store: w.store, Now: keys.Now, WallTime: keys.WallTime})
	if err != nil {
		w.t.Fatal(err)
	}
	if w.issuer, err = issuer.Open(w.t.Context(), issuer.Config{URL: "https://auth.example.com", Store: w.store, Keys: keys, Outbox: w.outbox}); err != nil {
		w.t.Fatal(err)
	}
	inMemory := url == ""
	if inMemory {
		url = "https://siem.example.com"
	}
	w.sender, err = New(Config{
		URL: url + hookPath, Loopback: jwks.IsLoopback, Secret: hookSecret, Outbox: w.outbox,
		Log: slog.New(slog.NewJSONHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	if inMemory {
		w.sender.client.Transport = w.receiver
	}
}

// run starts Run; stop ends it.
func (w *world) run() {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.sender.Run(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Errorf("Run ended with %v", err)
		}
	})
	w.t.Cleanup(w.stop)
}

// restart is a crash and a start: what was in memory is lost.
func (w *world) restart() {
	w.t.Helper()
	w.stop()
	if err := w.store.Close(); err != nil {
		w.t.Fatal(err)
	}
	w.open("")
	w.run()
}

// leave writes an event in the documented format, and returns its id.
func (w *world) leave(kind string) string {
	w.t.Helper()
	now := w.outbox.WallTime().UTC()
	id := strings.Replace(now.Format("20060102T150405.000000000Z"), ".", "", 1) + "-" + fmt.Sprintf("%016x", w.receiver.number())
	body := fmt.Sprintf(`{"type":%q,"timestamp":%q,"data":{"session_id":%q}}`, kind, now.Format(time.RFC3339Nano), hookData)
	w.leaveRaw(id, body)
	return id
}

func (w *world) leaveRaw(id, body string) {
	w.t.Helper()
	if err := w.store.Update(w.t.Context(), func(tx storage.Tx) error { return tx.Put("webhook/"+id, []byte(body)) }); err != nil {
		w.t.Fatal(err)
	}
}

// fill writes n events, in transactions of 60.
func (w *world) fill(n int) {
	w.t.Helper()
	for first := 0; first < n; first += 60 {
		err := w.store.Update(w.t.Context(), func(tx storage.Tx) error {
			for k := first; k < min(first+60, n); k++ {
				id := fmt.Sprintf("20000101T000000000000000Z-%016x", k)
				if err := tx.Put("webhook/"+id, []byte(`{"type":"test","timestamp":"2000-01-01T00:00:00Z","data":{}}`)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

// logout makes real decisions: a user is logged out n times.
func (w *world) logout(n int) {
	w.t.Helper()
	_, err := w.issuer.AddUser(w.t.Context(), api.NewUser{ID: "7", Name: "alice"}, "uid:0")
	for range n {
		if err == nil {
			_, err = w.issuer.LogoutUser(w.t.Context(), "alice", "uid:0")
		}
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) waiting() []string {
	w.t.Helper()
	list, err := w.outbox.Events(w.t.Context(), "", 1000)
	if err != nil {
		w.t.Fatal(err)
	}
	ids := []string{}
	for _, e := range list {
		ids = append(ids, e.ID)
	}
	return ids
}

// drops returns why events were dropped, by their ids.
func (w *world) drops() map[string]string {
	w.t.Helper()
	if _, err := audit.Chain(w.t.Context(), w.store); err != nil {
		w.t.Fatal(err)
	}
	records, err := w.issuer.Audit(w.t.Context(), audit.Query{Limit: 1000})
	if err != nil {
		w.t.Fatal(err)
	}
	why := map[string]string{}
	for _, r := range records.Records {
		if r.Action != "webhook.drop" {
			continue
		}
		if why[r.Target] != "" {
			w.t.Errorf("%s was dropped twice", r.Target)
		}
		why[r.Target] = r.Detail["why"]
	}
	return why
}

// logsNothingSecret fails if a log line of any level has a secret, a payload or a path.
func (w *world) logsNothingSecret() {
	log := w.log.String()
	key := strings.TrimPrefix(string(hookSecret), "whsec_")
	for _, secret := range []string{key, "v1,", hookPath, hookData} {
		if strings.Contains(log, secret) {
			w.t.Errorf("the log contains %q:\n%s", secret, log)
		}
	}
}

// A receiver verifies deliveries as someone who has only read the specification would, and
// answers as the test says. It is a server, and a transport for requests in memory.
type receiver struct {
	t      *testing.T
	answer func(d receivedTry) (status int, header http.Header) // nil: 204; status 0: never

	mu     sync.Mutex // owns what follows
	list   []receivedTry
	atOnce int // requests that are running
	most   int // the most of them so far
	n      int
}

// A receivedTry is what the receiver saw of one try.
type receivedTry struct {
	id, kind string
	at       time.Time
	tries    int // of this event, this one included
}

func newReceiver(t *testing.T) *receiver { return &receiver{t: t} }

func (r *receiver) number() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.n++
	return r.n
}

func (r *receiver) ServeHTTP(rw http.ResponseWriter, request *http.Request) {
	status, header := r.take(request)
	if status == 0 {
		<-request.Context().Done()
		return
	}
	for name, values := range header {
		rw.Header()[name] = values
	}
	rw.WriteHeader(status)
}

// RoundTrip answers in memory: a socket would stop the clock of a bubble.
func (r *receiver) RoundTrip(request *http.Request) (*http.Response, error) {
	defer request.Body.Close()
	status, header := r.take(request)
	defer r.leave()
	if status == 0 {
		<-request.Context().Done()
		return nil, request.Context().Err()
	}
	time.Sleep(20 * time.Millisecond) // tries that take no time would never run in parallel
	if header == nil {
		header = http.Header{}
	}
	return &http.Response{StatusCode: status, Header: header, Body: http.NoBody, Request: request}, nil
}

func (r *receiver) leave() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.atOnce--
}

func (r *receiver) take(request *http.Request) (int, http.Header) {
	body, err := io.ReadAll(request.Body)
	if err != nil {
		r.t.Error(err)
	}
	if err := verifyDelivery(hookSecret, request.Header, body, time.Now()); err != nil {
		r.t.Errorf("delivery does not verify: %v", err)
	}
	var p struct{ Type string }
	if err := json.Unmarshal(body, &p); err != nil {
		r.t.Error(err)
	}
	if request.Method != "POST" || request.URL.Path != hookPath || request.Header.Get("Content-Type") != "application/json" {
		r.t.Errorf("%s %s %v", request.Method, request.URL, request.Header)
	}
	d := r.note(receivedTry{id: request.Header.Get("webhook-id"), kind: p.Type, at: time.Now()})
	if r.answer == nil {
		return http.StatusNoContent, nil
	}
	return r.answer(d)
}

func (r *receiver) note(d receivedTry) receivedTry {
	r.mu.Lock()
	defer r.mu.Unlock()
	d.tries = 1
	for _, other := range r.list {
		if other.id == d.id {
			d.tries++
		}
	}
	r.list = append(r.list, d)
	r.atOnce++
	r.most = max(r.most, r.atOnce)
	return d
}

func (r *receiver) mostAtOnce() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.most
}

// startOver resets the count of parallel requests.
func (r *receiver) startOver() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.most = 0
	return time.Now()
}

// tries returns the tries of an event, or of all events if id is empty.
func (r *receiver) tries(id string) []receivedTry {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(r.list), func(d receivedTry) bool { return id != "" && d.id != id })
}

// verifyDelivery shares no code with the Sender: HMAC is written out as in RFC 2104.
func verifyDelivery(secret refusal.Secret, h http.Header, body []byte, now time.Time) error {
	key, err := base64.StdEncoding.DecodeString(string(secret)[len("whsec_"):])
	if err != nil {
		return err
	}
	seconds, err := strconv.ParseInt(h.Get("webhook-timestamp"), 10, 64)
	if err != nil {
		return err
	}
	// A try that takes longer is given up.
	if off := now.Sub(time.Unix(seconds, 0)).Abs(); off > sendTimeout {
		return fmt.Errorf("the timestamp is off by %s", off)
	}
	id := h.Get("webhook-id")
	if id == "" || strings.Contains(id, ".") {
		return fmt.Errorf("id %q", id)
	}
	inner, outer := make([]byte, 64), make([]byte, 64)
	copy(inner, key)
	copy(outer, key)
	for n := range inner {
		inner[n] ^= 0x36
		outer[n] ^= 0x5c
	}
	message := append(inner, id+"."+strconv.FormatInt(seconds, 10)+"."+string(body)...)
	first := sha256.Sum256(message)
	second := sha256.Sum256(append(outer, first[:]...))
	if got := h.Get("webhook-signature"); got != "v1,"+base64.StdEncoding.EncodeToString(second[:]) {
		return errors.New("wrong signature " + got)
	}
	return nil
}

// logBuffer collects log lines.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
