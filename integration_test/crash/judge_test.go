package crash

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"keymill/integration_test/freeport"
	"keymill/integration_test/server"
)

// An outcome is what a start on a changed store came to.
type outcome int

const (
	refused     outcome = iota // one line named what is wrong
	whole                      // served exactly what was acknowledged
	unavailable                // the same, but what needs the damaged record got 503, and the log names it
	unnoticed                  // something that is not in the manifest is missing or older, as the documents say
	violation
	outcomes
)

// A verdict is an outcome and why.
type verdict struct {
	outcome outcome
	why     string
}

// coveredKinds and coveredRecords are those whose loss, older form and damage every start must notice.
var (
	coveredKinds   = []string{"manifest/", "ring/", "retired/", "tombstone/", "refresh/secret/", "audience/", "client/", "verifier/", "applied/"}
	coveredRecords = []string{"meta", "keyring", "manifest", "clock", "issuer", "epoch"}
)

func isCovered(key string) bool {
	return slices.Contains(coveredRecords, key) ||
		slices.ContainsFunc(coveredKinds, func(kind string) bool { return strings.HasPrefix(key, kind) })
}

// A judge starts a server on changed stores, one at a time, in a directory of its own.
type judge struct {
	world   *lived
	binary  string
	dir     string
	address string
	key     string // file of the master key; "" means that of the world
	client  *http.Client
}

const (
	keySetPath = "/.well-known/jwks.json"
	hangLimit  = 2 * time.Minute // only bounds a hang, which is a violation
)

func newJudge(t *testing.T, w *lived, binary string) *judge {
	t.Helper()
	address, err := freeport.Address()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "km") // t.TempDir has too long names for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return &judge{world: w, binary: binary, dir: dir, address: address}
}

// place writes the changed store where the server finds it.
func (j *judge) place(m *mutant) error {
	data := filepath.Join(j.dir, "data")
	if err := os.RemoveAll(data); err != nil {
		return err
	}
	if err := os.Mkdir(data, 0o700); err != nil {
		return err
	}
	if m.mark != nil {
		if err := os.WriteFile(filepath.Join(data, markName), m.mark, 0o600); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(data, storeName), m.store, 0o600)
}

// judge starts a server on the changed store and compares what it does with what was acknowledged.
func (j *judge) judge(m *mutant) verdict {
	if err := j.place(m); err != nil {
		return verdict{violation, err.Error()}
	}
	log := new(output)
	cmd := exec.Command(j.binary, "serve", "--config", j.world.files[0],
		"--data", filepath.Join(j.dir, "data"), "--listen", j.address)
	cmd.Env, cmd.Stdout, cmd.Stderr = server.Environment(), log, log
	if j.key != "" {
		cmd.Env = append(cmd.Env, "KEYMILL_MASTER_KEY_FILE="+j.key)
	}
	process, err := server.Launch(cmd)
	if err != nil {
		return verdict{violation, err.Error()}
	}
	defer process.Close()
	j.client = &http.Client{Timeout: hangLimit, Transport: &http.Transport{DisableKeepAlives: false}}
	defer j.client.CloseIdleConnections()
	if !j.awaitServing(process) {
		select {
		case <-process.Done():
			return checkRefusal(cmd.ProcessState.ExitCode(), log.String())
		case <-time.After(hangLimit):
			return verdict{violation, "the start hangs"}
		}
	}
	p := &probe{judge: j, mutant: m}
	if !m.change {
		p.change = compareStores(j.world, m)
	}
	p.ask()
	p.awaitReason(process, log)
	if p.storeFailed(process, log) {
		// Damage of a page that only a request read. The server ends, as a start would.
		if len(p.wrong) > 0 {
			return verdict{violation, fmt.Sprintf("opened: %v", p.wrong)}
		}
		return checkRefusal(cmd.ProcessState.ExitCode(), log.String())
	}
	process.Close()
	return p.verdict(log.String())
}

// awaitReason waits until the log says why an answer was 503. The server writes its log after the answer.
func (p *probe) awaitReason(process *server.Companion, log *output) {
	for end := time.Now().Add(hangLimit); len(p.unavailable) > 0 && time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if text := log.String(); strings.Contains(text, "record ") || strings.Contains(text, "the store failed") {
			return
		}
		select {
		case <-process.Done():
			return
		default:
		}
	}
}

// storeFailed reports whether the server has ended by itself, because it can no longer read its store.
func (p *probe) storeFailed(process *server.Companion, log *output) bool {
	limit := time.Duration(0)
	if strings.Contains(log.String(), "the store failed") {
		limit = hangLimit // it serves the key set for two seconds more
	}
	select {
	case <-process.Done():
		return true
	case <-time.After(limit):
		return false
	}
}

// awaitServing returns true when the server answers requests, false if it ended before.
func (j *judge) awaitServing(process *server.Companion) bool {
	for end := time.Now().Add(hangLimit); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		select {
		case <-process.Done():
			return false
		default:
		}
		c, err := net.Dial("tcp", j.address)
		if err != nil {
			continue
		}
		c.Close()
		// The port is open before the store is. The answer comes when the server serves, and the
		// connection breaks if it refuses.
		resp, err := j.client.Get("http://" + j.address + "/healthz")
		if err == nil {
			resp.Body.Close()
			return true
		}
	}
	return false
}

// An output is what a process printed.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

var (
	crashWords = regexp.MustCompile(`panic|goroutine \d|runtime error|fatal error|SIG[A-Z]{3,}|unexpected fault`)
	namesPlace = regexp.MustCompile(`record ("|[a-z]+)|page \d+|meta page|the key "|keymill\.db|keymill\.mark|older than the one|master key does not open|has records|schema \d`)
)

// checkRefusal requires one line that names a record, a page or a file, and at most one more that says
// what to do.
func checkRefusal(code int, text string) verdict {
	var lines []string
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "time=") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	switch {
	case crashWords.MatchString(text):
		return verdict{violation, "a panic: " + text}
	case code <= 0:
		return verdict{violation, fmt.Sprintf("exit code %d: %s", code, text)}
	case len(lines) == 0 || len(lines) > 2 || !strings.HasPrefix(lines[0], "keymill: "):
		return verdict{violation, "the refusal is not one line and a hint: " + text}
	case !namesPlace.MatchString(lines[0]):
		return verdict{violation, "the refusal names nothing: " + text}
	}
	return verdict{refused, lines[0]}
}

// A change is how the records differ from those of the final stage.
type change struct {
	lost  []string // records that are missing
	older []string // records that are, byte for byte, those of an earlier stage
	bad   []string // records that no program with the master key has written
}

// compareStores compares record by record, as a search in the tree finds them.
func compareStores(w *lived, m *mutant) change {
	var c change
	f, err := readStoreFile(m.store)
	if err != nil {
		return c
	}
	keys := map[string]bool{}
	for _, s := range append(slices.Clone(w.older), w.final) {
		for key := range s.records {
			keys[key] = true
		}
	}
	if found, _, err := f.all(); err == nil {
		for key := range found {
			keys[key] = true
		}
	}
	for key := range keys {
		want, known := w.final.records[key]
		value, err := f.get(key)
		genuine := slices.ContainsFunc(w.older, func(s stage) bool { v, ok := s.records[key]; return ok && v == string(value) })
		switch {
		case err != nil:
		case value == nil && known:
			c.lost = append(c.lost, key)
		case value == nil || known && string(value) == want:
		case genuine:
			c.older = append(c.older, key)
		default:
			c.bad = append(c.bad, key)
		}
	}
	return c
}

// A probe asks one server everything that was acknowledged.
type probe struct {
	*judge
	mutant *mutant
	change change

	mu          sync.Mutex
	wrong       []string // answers that open a door or publish a wrong key
	missing     []string // acknowledged things that were refused
	unavailable []string // acknowledged things that got 503
}

func (p *probe) note(list *[]string, format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	*list = append(*list, fmt.Sprintf(format, args...))
}

func (p *probe) post(path, client, contentType, body string) server.Answer {
	req, err := http.NewRequest("POST", "http://"+p.address+path, strings.NewReader(body))
	if err != nil {
		return server.Answer{}
	}
	req.Header.Set("Content-Type", contentType)
	if c, ok := p.world.clients[client]; ok {
		req.SetBasicAuth(c.ID, c.Secret)
	} else if client != "" {
		req.SetBasicAuth(client, evilSecret)
	}
	a, err := answer(p.client.Do(req))
	if err != nil {
		p.note(&p.missing, "%s: %v", path, err)
	}
	return a
}

// judgeAnswer compares one answer with what was acknowledged.
func (p *probe) judgeAnswer(what string, a server.Answer, got, want bool) {
	switch {
	case a.Status == http.StatusServiceUnavailable:
		p.note(&p.unavailable, "%s", what)
	case got && !want:
		p.note(&p.wrong, "%s: %d %s", what, a.Status, a.Field("error"))
	case !got && want:
		p.note(&p.missing, "%s: %d %s", what, a.Status, a.Field("error"))
	}
}

func (p *probe) ask() {
	p.askKeys()
	var wg sync.WaitGroup
	for user, want := range p.world.users {
		if p.mutant.logins {
			wg.Go(func() {
				a := p.post("/api/token/", "", "application/json", loginBody(user))
				p.judgeAnswer("login of "+user, a, a.Status == http.StatusOK, want)
			})
		}
	}
	for _, id := range []string{"billing", "reporter", "off", "removed", "evil", "billing evil"} {
		a := p.post("/token", strings.TrimSuffix(id, " evil"), formType, "grant_type=client_credentials")
		if id == "billing evil" { // the real client with the secret of an attacker
			a = p.post("/token", "", formType, url.Values{"grant_type": {"client_credentials"}, "client_id": {"billing"}, "client_secret": {evilSecret}}.Encode())
		}
		signer := p.world.signers[id]
		p.judgeAnswer("token for "+id, a, a.Status == http.StatusOK, signer != "")
		if kid := kidOf(a.Field("access_token")); a.Status == http.StatusOK && kid != signer {
			p.note(&p.wrong, "a new key %s signs for %s", kid, id)
		}
	}
	for name, want := range p.world.active {
		a := p.post("/introspect", "api", formType, url.Values{"token": {p.world.tokens[name]}}.Encode())
		p.judgeAnswer("introspection of token "+name, a, strings.Contains(string(a.Body), `"active":true`), want)
	}
	for name, want := range p.world.live {
		a := p.post("/token", "", formType, url.Values{"grant_type": {"refresh_token"}, "client_id": {server.Web}, "refresh_token": {p.world.refreshes[name]}}.Encode())
		p.judgeAnswer("refresh of "+name, a, a.Status == http.StatusOK, want)
	}
	wg.Wait()
	p.askKeys()
}

// askKeys compares the published set.
func (p *probe) askKeys() {
	a, err := answer(p.client.Get("http://" + p.address + keySetPath))
	if err != nil || a.Status != http.StatusOK {
		p.note(&p.wrong, "key set: %s %v", a, err)
		return
	}
	if got := keysOf(a.Body); fmt.Sprint(got) != fmt.Sprint(p.world.keys) {
		p.note(&p.wrong, "key set: %v, want %v", got, p.world.keys)
	}
}

// keysOf maps the kids of a key set to their public keys.
func keysOf(body []byte) map[string]string {
	var set struct {
		Keys []struct{ Kid, Kty, X, N, E string }
	}
	if err := json.Unmarshal(body, &set); err != nil {
		return nil
	}
	out := map[string]string{}
	for _, k := range set.Keys {
		out[k.Kid] = k.Kty + k.X + k.N + k.E
	}
	return out
}

// verdict judges what the probe has seen, after the server was killed.
func (p *probe) verdict(log string) verdict {
	covered := slices.DeleteFunc(slices.Concat(p.change.lost, p.change.older, p.change.bad), func(key string) bool {
		// A page of the manifest that the manifest does not name is never read.
		_, known := p.world.final.records[key]
		return !isCovered(key) || !known && strings.HasPrefix(key, "manifest/")
	})
	markMissing := strings.Contains(log, "the mark of the store is missing")
	soft := len(p.change.lost)+len(p.change.older) > 0 || markMissing
	bounded := p.mutant.outside && markMissing || p.mutant.together
	switch {
	case p.mutant.change && markMissing:
		return verdict{violation, "the mark does not fit the store: " + log}
	case crashWords.MatchString(log):
		return verdict{violation, "a panic: " + log}
	case bounded:
		return verdict{unnoticed, "the whole store is older, and its mark is missing or older too"}
	case len(p.wrong) > 0 && !p.byDesign():
		return verdict{violation, fmt.Sprintf("opened: %v %+v", p.wrong, p.change)}
	case len(covered) > 0:
		return verdict{violation, fmt.Sprintf("not noticed: %v", covered)}
	case len(p.missing) > 0 && !p.byDesign():
		return verdict{violation, fmt.Sprintf("refused without a reason: %v %+v", p.missing, p.change)}
	case len(p.unavailable) > 0 && !strings.Contains(log, "record "):
		return verdict{violation, fmt.Sprintf("503 for %v, and the log names no record: %s", p.unavailable, log)}
	}
	if why := p.checkFile(); why != "" {
		return verdict{violation, why}
	}
	switch {
	case len(p.unavailable) > 0:
		return verdict{unavailable, fmt.Sprint(p.unavailable)}
	case soft:
		return verdict{unnoticed, fmt.Sprintf("%+v", p.change)}
	}
	return verdict{whole, ""}
}

// byDesign reports whether wrong answers have their reason in the documents: a record of a user or a
// session is missing or older, or the entry of a revoked access token is missing.
func (p *probe) byDesign() bool {
	for _, key := range append(slices.Clone(p.change.lost), p.change.older...) {
		for _, kind := range []string{"user/", "login/", "family/", "terms/", "id/", "gone/", "denied/"} {
			if strings.HasPrefix(key, kind) {
				return true
			}
		}
	}
	return false
}

// checkFile requires that no record that is damaged was written, and that no new private key was made.
func (p *probe) checkFile() string {
	b, err := os.ReadFile(filepath.Join(p.dir, "data", storeName))
	if err != nil {
		return err.Error()
	}
	after, err := readStoreFile(b)
	if err != nil {
		return "the file after the run: " + err.Error()
	}
	before, err := readStoreFile(p.mutant.store)
	if err != nil {
		return ""
	}
	for _, key := range p.change.bad {
		if key == "audit/head" {
			continue // it follows from the records of the log, and is written again
		}
		was, _ := before.get(key)
		if is, err := after.get(key); err != nil || !bytes.Equal(was, is) {
			return fmt.Sprintf("the damaged record %s was written or removed (%v)", key, err)
		}
	}
	records, _, err := after.all()
	if err != nil {
		return "" // the damage of a page is as it was
	}
	for key := range records {
		if _, known := p.world.final.records[key]; strings.HasPrefix(key, "private/") && !known && !slices.Contains(p.change.bad, key) && !slices.Contains(p.change.older, key) {
			return "a new key was made: " + key
		}
	}
	return ""
}
