package console

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"keymill/cmd/keymill/internal/adminapi/adminapitest"
	"keymill/issuer/api"
)

// TestThePageOfNodesShowsWhatIsWrong: a node that is missing, a clock that is off, keys that are not read yet; and who does
// which job.
func TestThePageOfNodesShowsWhatIsWrong(t *testing.T) {
	now := time.Now()
	list := api.Nodes{Shared: true, Node: "eu-1", Nodes: []api.Node{
		{ID: "eu-1", Host: "web-1", Version: "1.2.3", Live: true, Started: now.Add(-time.Hour), Beat: now, ClockOffset: "0s", Keys: 17, Generation: 1},
		{ID: "eu-2", Host: "web-2", Version: "1.2.3", Live: true, Started: now.Add(-time.Hour), Beat: now, ClockOffset: "-45s", Keys: 16, Generation: 1},
		{ID: "eu-3", Host: "web-3", Version: "1.2.2", Started: now.Add(-time.Hour), Beat: now.Add(-time.Minute), Keys: 17, Generation: 1},
	}, Leases: []api.Lease{{Name: "audit", Node: "eu-1"}, {Name: "webhook", Node: "eu-1"}}}
	v := newVisitor(adminapitest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/nodes") {
			json.NewEncoder(w).Encode(list)
			return
		}
		admin{"name"}.ServeHTTP(w, r)
	})))
	base := v.login(t)
	says := func(path string, want ...string) {
		t.Helper()
		w := v.send("GET", base+path, "")
		text := values.ReplaceAllString(w.Body.String(), "")
		for _, words := range want {
			if w.Code != 200 || !strings.Contains(text, words) {
				t.Errorf("%q does not say %q: %d %s", path, words, w.Code, text)
			}
		}
	}
	says("nodes", "eu-1", "answers this page", "web-2", "off by -45s", "not the newest", "missing", "not known", "audit, webhook", "1 min ago", "keymill node list")
	says("", "2 live, 1 missing")
	list.Nodes = list.Nodes[:2]
	says("", "2 live<")
	list = api.Nodes{Nodes: []api.Node{}, Leases: []api.Lease{}}
	says("nodes", "The server has its store alone.")
	if strings.Contains(v.send("GET", base, "").Body.String(), "Servers of the store") {
		t.Error("the overview of a server that has its store alone counts servers")
	}
}
