package simplejwt

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"math/rand/v2"
	"mime"
	"net/http"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// A call is a request that can be sent to either side.
type call struct {
	method string
	path   string
	header http.Header
	body   []byte
}

type fields map[string]any

const jsonType = "application/json"

// post returns a POST of v in JSON.
func post(path string, v any) call {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return postBytes(path, jsonType, string(b))
}

func postBytes(path, mediaType, body string) call {
	c := call{method: http.MethodPost, path: path, header: http.Header{}, body: []byte(body)}
	if mediaType != "" {
		c.header.Set("Content-Type", mediaType)
	}
	return c
}

// with returns the call with one more header.
func (c call) with(name, value string) call {
	header := http.Header{}
	maps.Copy(header, c.header)
	header.Set(name, value)
	c.header = header
	return c
}

// An answer is what the two sides are compared by.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// send sends a call. Unless the call has an X-Forwarded-For header, it gets a random address, as
// from a proxy, so that the failures of other rows do not limit it.
func send(ctx context.Context, base string, c call) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, c.method, base+c.path, bytes.NewReader(c.body))
	if err != nil {
		return answer{}, err
	}
	maps.Copy(req.Header, c.header)
	if req.Header.Get("X-Forwarded-For") == "" {
		req.Header.Set("X-Forwarded-For", address())
	}
	resp, err := http.DefaultTransport.RoundTrip(req) // RoundTrip follows no redirect
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return answer{resp.StatusCode, resp.Header, body}, err
}

func do(t *testing.T, base string, c call) answer {
	t.Helper()
	a, err := send(t.Context(), base, c)
	if err != nil {
		t.Fatalf("%s %s: %v", c.method, c.path, err)
	}
	return a
}

func address() string {
	b := rand.Uint32()
	return netip.AddrFrom4([4]byte{10, byte(b >> 16), byte(b >> 8), byte(b)}).String()
}

// line returns the answer in one line: the status, the body as JSON with sorted keys, and after a
// bar the header that belongs to the status.
func (a answer) line() string {
	line := strconv.Itoa(a.status)
	if body := a.content(); body != "" {
		line += " " + body
	}
	if challenge := a.header.Get("Www-Authenticate"); challenge != "" {
		line += " | " + challenge
	}
	if a.status == http.StatusMethodNotAllowed {
		// The framework allows OPTIONS too, and describes the view there.
		line += " | " + strings.TrimSuffix(a.header.Get("Allow"), ", OPTIONS")
	}
	return line
}

func (a answer) content() string {
	media, _, _ := mime.ParseMediaType(a.header.Get("Content-Type"))
	if len(a.body) == 0 || media != jsonType {
		return media
	}
	var v any
	if err := json.Unmarshal(a.body, &v); err != nil {
		return "invalid JSON: " + err.Error()
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(mask(v)); err != nil {
		return err.Error()
	}
	return strings.TrimSpace(b.String())
}

// Equal answers may differ in the tokens, in the words of a JSON parser and in the number of
// seconds left.
var (
	parserWords = regexp.MustCompile(`^JSON parse error - .+`)
	seconds     = regexp.MustCompile(`[0-9]+ seconds?`)
)

func mask(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			if s, ok := value.(string); ok && (key == "access" || key == "refresh") && len(s) > 50 {
				value = "token"
			}
			v[key] = mask(value)
		}
	case []any:
		for i := range v {
			v[i] = mask(v[i])
		}
	case string:
		return seconds.ReplaceAllString(parserWords.ReplaceAllString(v, "JSON parse error - …"), "… seconds")
	}
	return v
}

// TestLinesOfDifferentAnswersDiffer: a comparison that ignored a status, a key, a code, a text or
// the challenge would miss a change.
func TestLinesOfDifferentAnswersDiffer(t *testing.T) {
	make := func(status int, body, challenge string) string {
		h := http.Header{"Content-Type": {jsonType}}
		if challenge != "" {
			h.Set("WWW-Authenticate", challenge)
		}
		return answer{status, h, []byte(body)}.line()
	}
	token := strings.Repeat("x", 60)
	seen := map[string]string{}
	for name, line := range map[string]string{
		"plain":           make(401, `{"detail":"no","code":"a"}`, ""),
		"status":          make(400, `{"detail":"no","code":"a"}`, ""),
		"code":            make(401, `{"detail":"no","code":"b"}`, ""),
		"text":            make(401, `{"detail":"nope","code":"a"}`, ""),
		"one key less":    make(401, `{"detail":"no"}`, ""),
		"one key more":    make(401, `{"detail":"no","code":"a","x":null}`, ""),
		"a list":          make(401, `{"detail":["no"],"code":"a"}`, ""),
		"challenge":       make(401, `{"detail":"no","code":"a"}`, "Bearer"),
		"other challenge": make(401, `{"detail":"no","code":"a"}`, "Basic"),
		"tokens":          make(200, `{"access":"`+token+`","refresh":"`+token+`"}`, ""),
		"no token":        make(200, `{"access":"`+token+`","refresh":""}`, ""),
		"empty":           make(200, `{}`, ""),
	} {
		if other, twice := seen[line]; twice {
			t.Errorf("%q and %q are the same line: %s", name, other, line)
		}
		seen[line] = name
	}
	same := func(a, b string) {
		t.Helper()
		if a != b {
			t.Errorf("%s\nand\n%s\nare different lines, want equal ones", a, b)
		}
	}
	same(make(200, `{"access":"`+token+`"}`, ""), make(200, `{ "access": "`+token+token+`" }`, ""))
	same(make(400, `{"detail":"JSON parse error - a"}`, ""), make(400, `{"detail":"JSON parse error - b"}`, ""))
	same(make(429, `{"detail":"available in 1 second."}`, ""), make(429, `{"detail":"available in 90 seconds."}`, ""))
}
