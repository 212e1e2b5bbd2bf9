package endpoint

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
)

// exchangesVariable names a file to which each exchange with the admin API is appended, as a line of JSON.
// integration_test/openapi compares them with the document of the API.
const exchangesVariable = "KEYMILL_TEST_EXCHANGES"

// An exchange is a request to the admin API and its answer.
type exchange struct {
	Method      string
	Path        string
	Query       string
	Request     string
	Status      int
	ContentType string
	Answer      string
}

// A recorder is a RoundTripper that writes down what it sees.
type recorder struct{ next http.RoundTripper }

// recorded returns next, or a recorder around it if the exchanges are wanted.
func recorded(next http.RoundTripper) http.RoundTripper {
	if os.Getenv(exchangesVariable) == "" {
		return next
	}
	return recorder{next}
}

// RoundTrip implements http.RoundTripper.
func (rec recorder) RoundTrip(r *http.Request) (*http.Response, error) {
	var sent []byte
	if r.Body != nil {
		var err error
		if sent, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		r.Body = io.NopCloser(bytes.NewReader(sent))
	}
	resp, err := rec.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(answer))
	line, err := json.Marshal(exchange{
		r.Method, r.URL.Path, r.URL.RawQuery, string(sent), resp.StatusCode, resp.Header.Get("Content-Type"), string(answer),
	})
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(os.Getenv(exchangesVariable), os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	_, err = f.Write(append(line, '\n'))
	return resp, err
}
