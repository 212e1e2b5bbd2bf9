package metrics

import (
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// unknown is the endpoint of requests to other paths than those of the server, and other the code of what
// is not in a list.
const (
	unknown = "unknown"
	other   = "other"
)

// statusGone stands for the status of a request whose client has closed the connection: no fault
// of the server, and no answer that anyone saw.
const statusGone = 499

// errorCodes lists the values of the label error: the codes of RFC 6749, sections 4.1.2.1 and 5.2, RFC 7009,
// section 2.2.1, and RFC 8707, section 2, that the server answers.
func errorCodes() []string {
	return []string{
		"invalid_client", "invalid_grant", "invalid_request", "invalid_scope", "invalid_target", "server_error",
		"temporarily_unavailable", "unauthorized_client", "unsupported_grant_type", "unsupported_response_type",
		"unsupported_token_type", other,
	}
}

// verifyCodes lists them for the answers to proxies: those of RFC 6750, section 3.1, and no_token, which is ours.
func verifyCodes() []string {
	return []string{"insufficient_scope", "invalid_request", "invalid_token", "no_token", "server_error", "temporarily_unavailable", other}
}

// ownCodes maps codes that only this server has to the one that RFC 6749 has for them: a wrong user name or
// password, and tokens that the simplejwt endpoints tell apart.
var ownCodes = map[string]string{
	"invalid_credentials": "invalid_grant", "token_blacklisted": "invalid_grant", "token_wrong_type": "invalid_grant",
}

// keySetCodes lists the statuses of the key set that have a series of their own.
func keySetCodes() []int {
	return []int{http.StatusOK, http.StatusNotModified, http.StatusMethodNotAllowed}
}

// Routes say which values the labels of requests and tokens have.
type Routes struct {
	Paths  []string // of the public listener
	Cached []string // those of Paths that answer 304 to a client that has the document
	KeySet string   // the path of the key set
	Verify string   // the path of the listener for proxies

	Grants     []string // and the names of login endpoints
	Algorithms []string
}

// requests has the counters of requests by endpoint.
type requests struct {
	endpoints map[string]*endpoint // path → its counters; only SetRoutes writes it
	verify    *endpoint
	unknown   *endpoint
}

// An endpoint has the counters of one path.
type endpoint struct {
	seconds [4]prometheus.Observer        // by the first digit of the status, from 2; nil if there is no such status
	refused map[string]prometheus.Counter // code → its counter
	keySet  map[int]prometheus.Counter    // status → its counter, of the key set only; 0 for other statuses
}

// SetRoutes makes the counters of requests and tokens. It is called once, before the first event.
func (m *Metrics) SetRoutes(r Routes) {
	if m == nil {
		return
	}
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: namespace, Name: "request_seconds", Help: "Time from the header of a request to the end of its answer, by endpoint and class of status.",
		Buckets: []float64{.001, .0025, .005, .01, .025, .1, .25, 1, 2.5, 10},
	}, []string{"endpoint", "code"})
	refused := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: namespace, Name: "refusals_total", Help: "Requests that were answered with an error, by endpoint and OAuth error code.",
	}, []string{"endpoint", "error"})
	keySet := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: namespace, Name: "jwks_requests_total", Help: "Requests for the key set, by status.",
	}, []string{"code"})
	m.registry.MustRegister(seconds, refused, keySet)
	add := func(path string, codes []string) *endpoint {
		e := &endpoint{refused: map[string]prometheus.Counter{}}
		for n := range e.seconds {
			if n+2 != 3 || slices.Contains(r.Cached, path) {
				e.seconds[n] = seconds.WithLabelValues(path, strconv.Itoa(n+2)+"xx")
			}
		}
		for _, code := range codes {
			e.refused[code] = refused.WithLabelValues(path, code)
		}
		for own, code := range ownCodes {
			e.refused[own] = e.refused[code] // nil if the endpoint has no such code
		}
		return e
	}
	m.requests = requests{endpoints: map[string]*endpoint{}, verify: add(r.Verify, verifyCodes()), unknown: add(unknown, errorCodes())}
	for _, path := range r.Paths {
		m.endpoints[path] = add(path, errorCodes())
	}
	if e := m.endpoints[r.KeySet]; e != nil {
		e.keySet = map[int]prometheus.Counter{0: keySet.WithLabelValues(other)}
		for _, status := range keySetCodes() {
			e.keySet[status] = keySet.WithLabelValues(strconv.Itoa(status))
		}
	}
	m.makeTokens(slices.Clone(r.Grants), r.Algorithms)
}

// A Request is the http.ResponseWriter of one request, from Begin to End.
type Request struct {
	http.ResponseWriter
	endpoint *endpoint
	began    time.Time
	status   int
}

// Begin returns the writer for the answer to a request with that path to the public listener.
func (m *Metrics) Begin(w http.ResponseWriter, path string) *Request {
	return m.begin(w, m.endpoints[path])
}

// BeginVerify is Begin for every request to the listener for proxies, whatever its path.
func (m *Metrics) BeginVerify(w http.ResponseWriter, _ string) *Request {
	return m.begin(w, m.verify)
}

func (m *Metrics) begin(w http.ResponseWriter, e *endpoint) *Request {
	if e == nil {
		e = m.unknown
	}
	return &Request{ResponseWriter: w, endpoint: e, began: time.Now()}
}

// WriteHeader implements http.ResponseWriter.
func (q *Request) WriteHeader(status int) {
	if q.status == 0 {
		q.status = status
	}
	q.ResponseWriter.WriteHeader(status)
}

// Unwrap returns the writer that q writes to, for http.ResponseController.
func (q *Request) Unwrap() http.ResponseWriter { return q.ResponseWriter }

// Failed counts an error that is answered through w, if w is a *Request: its code, or that the client has
// closed the connection.
func Failed(w http.ResponseWriter, code string, gone bool) {
	q, ok := w.(*Request)
	switch {
	case !ok:
		return
	case gone:
		q.status = statusGone
		return
	}
	counter := q.endpoint.refused[code]
	if counter == nil {
		counter = q.endpoint.refused[other]
	}
	counter.Inc()
}

// End counts the request. A status that the handler did not set is 200, as in net/http.
func (q *Request) End() {
	if q.status == 0 {
		q.status = http.StatusOK
	}
	class := min(max(q.status/100-2, 0), len(q.endpoint.seconds)-1)
	if seconds := q.endpoint.seconds[class]; seconds != nil {
		seconds.Observe(time.Since(q.began).Seconds())
	}
	if codes := q.endpoint.keySet; codes != nil {
		counter := codes[q.status]
		if counter == nil {
			counter = codes[0]
		}
		counter.Inc()
	}
}
