package monitoring

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"keymill/integration_test/freeport"
	"keymill/integration_test/server"
)

// failsafe bounds a hang; everything takes seconds.
const failsafe = 5 * time.Minute

// needs skips a test on a machine without the programs, and fails it if CI is set.
func needs(t *testing.T, programs ...string) {
	t.Helper()
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatalf("%v; run scripts/install-deps", err)
			}
			t.Skipf("%v; run scripts/install-deps", err)
		}
	}
}

// deploy returns the path of a file below scripts/deploy.
func deploy(t *testing.T, name string) string {
	t.Helper()
	root, err := server.Root()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(root, "scripts", "deploy", name)
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A prometheus is Debian's Prometheus.
type prometheus struct{ url string }

// startPrometheus starts one that scrapes the targets every second and evaluates the rules of keymill.rules.yml
// without waiting. It ends with the test.
func startPrometheus(t *testing.T, targets ...string) prometheus {
	t.Helper()
	dir := t.TempDir()
	// predict_linear over the first seconds of a busy disk says nothing, but no test looks at its alert.
	rules := regexp.MustCompile(`(?m)^( +for: ).*$`).ReplaceAllString(read(t, deploy(t, "keymill.rules.yml")), "${1}0s")
	write(t, filepath.Join(dir, "keymill.rules.yml"), rules)
	write(t, filepath.Join(dir, "prometheus.yml"), fmt.Sprintf(`
global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}
rule_files: [keymill.rules.yml]
scrape_configs:
  - job_name: keymill
    static_configs: [{targets: [%s]}]
`, strings.Join(targets, ", ")))
	return launchPrometheus(t, dir)
}

// launchPrometheus starts one with dir/prometheus.yml. It ends with the test.
func launchPrometheus(t *testing.T, dir string) prometheus {
	t.Helper()
	address, err := freeport.Address()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("prometheus", "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+address, "--log.level=error")
	cmd.Env, cmd.Stderr = server.Environment(), os.Stderr
	companion, err := server.Launch(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { companion.Close() })
	return prometheus{"http://" + address}
}

// get decodes the field data of an answer of the API into v, or reports why there is none.
func (p prometheus) get(path string, query url.Values, v any) error {
	r, err := http.Get(p.url + "/api/v1/" + path + "?" + query.Encode())
	if err != nil {
		return err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	answer := struct {
		Status string
		Error  string
		Data   json.RawMessage
	}{}
	if err := json.Unmarshal(b, &answer); err != nil {
		return fmt.Errorf("%w: %s", err, b)
	}
	if answer.Status != "success" {
		return fmt.Errorf("%s", answer.Error)
	}
	return json.Unmarshal(answer.Data, v)
}

// A series is one result of a query.
type series struct {
	Metric map[string]string
	Value  [2]any // time and text
}

// query returns what an expression is now.
func (p prometheus) query(expr string) ([]series, error) {
	var data struct {
		ResultType string
		Result     []series
	}
	err := p.get("query", url.Values{"query": {expr}}, &data)
	return data.Result, err
}

// A rule is an alerting rule with its alerts.
type rule struct {
	Name        string
	Query       string
	Labels      map[string]string
	Annotations map[string]string
	Health      string
	LastError   string
	Alerts      []struct {
		Labels, Annotations map[string]string
		State               string
	}
}

func (p prometheus) rules(t *testing.T) map[string]rule {
	t.Helper()
	var data struct {
		Groups []struct{ Rules []rule }
	}
	if err := p.get("rules", nil, &data); err != nil {
		t.Fatal(err)
	}
	rules := map[string]rule{}
	for _, group := range data.Groups {
		for _, r := range group.Rules {
			rules[r.Name] = r
		}
	}
	return rules
}

// firing returns the labels of an alert that fires, from the list that Prometheus sends to an
// Alertmanager; nil if it does not.
func (p prometheus) firing(alert string) map[string]string {
	var data struct {
		Alerts []struct {
			Labels map[string]string
			State  string
		}
	}
	if p.get("alerts", nil, &data) != nil {
		return nil // it is not up yet
	}
	for _, a := range data.Alerts {
		if a.Labels["alertname"] == alert && a.State == "firing" {
			return a.Labels
		}
	}
	return nil
}

func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(failsafe); !is(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after %v there is no %s", failsafe, what)
		}
	}
}
