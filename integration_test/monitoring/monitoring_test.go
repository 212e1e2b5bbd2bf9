package monitoring

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"keymill/integration_test/freeport"
	"keymill/integration_test/server"
)

func TestMain(m *testing.M) { server.Main(m) }

// TestAlertsFire starts both servers once, because a start takes longer than what is looked at.
func TestAlertsFire(t *testing.T) {
	needs(t, "prometheus", "promtool")
	t.Parallel()
	metrics, err := freeport.Address()
	if err != nil {
		t.Fatal(err)
	}
	srv := server.Start(t, server.Options{Config: server.WebConfig + "\nmetrics:\n  listen: " + metrics})
	srv.AddWeb(t)
	p := startPrometheus(t, metrics)
	await(t, "scrape", func() bool {
		result, err := p.query(`keymill_refresh_total{outcome="replay"} == 0 and on () keymill_ready == 1 and on () keymill_sessions`)
		return err == nil && len(result) == 1
	})
	rules := p.rules(t)
	exported := scrape(t, metrics)
	t.Run("none without a reason", func(t *testing.T) {
		for _, alert := range []string{"KeymillDown", "KeymillReplay", "KeymillKeyLate", "KeymillRotationFrozen", "KeymillRestarts", "KeymillLogLinesDropped", "KeymillStoreAway", "KeymillNodeMissing", "KeymillClockWrong"} {
			if labels := p.firing(alert); labels != nil {
				t.Errorf("%s fires: %v", alert, labels)
			}
			if rules[alert].Name == "" {
				t.Errorf("there is no rule %s", alert)
			}
		}
	})
	t.Run("names of the rules", func(t *testing.T) { checkRules(t, rules, exported) })
	t.Run("names of the dashboard", func(t *testing.T) { checkDashboard(t, p, exported) })
	t.Run("a replay", func(t *testing.T) {
		replay(t, srv)
		await(t, "alert KeymillReplay", func() bool { return p.firing("KeymillReplay") != nil })
		if labels := p.firing("KeymillReplay"); labels["instance"] != metrics || labels["severity"] != "critical" || labels["outcome"] != "replay" {
			t.Errorf("%v", labels)
		}
	})
	t.Run("a damaged record that every refresh needs", func(t *testing.T) {
		// A commit in the meantime would move the record, and the damage would be in a page that is not used.
		signal(t, srv, syscall.SIGSTOP)
		damageEpoch(t, filepath.Join(srv.Data, "keymill.db"))
		signal(t, srv, syscall.SIGCONT)
		await(t, "alert KeymillNotReady", func() bool { return p.firing("KeymillNotReady") != nil })
	})
	t.Run("the end of the server", func(t *testing.T) {
		if err := srv.Stop(); err != nil {
			t.Fatal(err)
		}
		await(t, "alert KeymillDown", func() bool { return p.firing("KeymillDown") != nil })
	})
	for name, r := range p.rules(t) {
		if r.Health != "ok" {
			t.Errorf("rule %s is %s: %s", name, r.Health, r.LastError)
		}
	}
}

func signal(t *testing.T, srv *server.Server, sig syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(srv.PID(), sig); err != nil {
		t.Fatal(err)
	}
}

// replay presents a refresh token that was replaced twice.
func replay(t *testing.T, srv *server.Server) {
	t.Helper()
	first, err := srv.Login(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	token := first
	for range 2 {
		a, err := srv.Refresh(t.Context(), server.Web, token)
		if err != nil || a.Status != http.StatusOK {
			t.Fatalf("%v %v", a, err)
		}
		token = a.Field("refresh_token")
	}
	if a, err := srv.Refresh(t.Context(), server.Web, first); err != nil || a.Field("error") != "invalid_grant" {
		t.Fatalf("%v %v", a, err)
	}
}

// damageEpoch changes the record epoch in the file of a running server, which maps it: the byte after the key is the
// first of the value, in the leaves of the tree. In JSON the word has a quote before it.
func damageEpoch(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	found := 0
	for at, key := 0, []byte("epoch"); ; {
		n := bytes.Index(b[at:], key)
		if n < 0 {
			break
		}
		at += n + len(key)
		const leaf = 2 // the type of a page, after its number of 8 bytes
		page := b[at/os.Getpagesize()*os.Getpagesize():]
		if binary.NativeEndian.Uint16(page[8:]) != leaf || b[at-len(key)-1] == '"' {
			continue
		}
		if _, err := f.WriteAt([]byte{^b[at]}, int64(at)); err != nil {
			t.Fatal(err)
		}
		found++
	}
	if found == 0 {
		t.Fatal("the store has no record epoch")
	}
}

// exports maps a name to its labels, and each label to its values.
type exports map[string]map[string][]string

// scrape reads the metrics, and lets promtool check their form and their names.
func scrape(t *testing.T, address string) exports {
	t.Helper()
	r, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("%d %v %s", r.StatusCode, err, text)
	}
	check := exec.Command("promtool", "check", "metrics")
	check.Stdin = strings.NewReader(string(text))
	if out, err := check.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
	found := exports{"up": {}}
	for _, m := range regexp.MustCompile(`(?m)^(\w+)(?:\{(.*)\})? `).FindAllStringSubmatch(string(text), -1) {
		labels := found[m[1]]
		if labels == nil {
			labels = map[string][]string{}
			found[m[1]] = labels
		}
		for _, l := range regexp.MustCompile(`(\w+)="((?:[^"\\]|\\.)*)"`).FindAllStringSubmatch(m[2], -1) {
			labels[l[1]] = append(labels[l[1]], l[2])
		}
	}
	if len(found) < 30 {
		t.Errorf("%d names are exported", len(found))
	}
	return found
}

var (
	metricName = regexp.MustCompile(`\b(?:(?:keymill|process|go)_\w+|up\b)(?:\{([^}]*)\})?`)
	matcher    = regexp.MustCompile(`(\w+)(=~|!~|!=|=)"([^"]*)"`)
	grouping   = regexp.MustCompile(`\b(?:by|on|without|ignoring) \(([^)]*)\)`)
	legend     = regexp.MustCompile(`\{\{ ?(?:\$labels\.)?(\w+) ?\}\}`)
)

// ofPrometheus are labels that a scrape adds.
func ofPrometheus(label string) bool { return label == "job" || label == "instance" }

// check returns what an expression, and the labels that a text takes from its result, name and no metric has.
func (e exports) check(expr string, text ...string) (unknown []string) {
	labels := map[string]bool{}
	for _, m := range metricName.FindAllStringSubmatch(expr, -1) {
		name, _, _ := strings.Cut(m[0], "{")
		has, ok := e[name]
		if !ok {
			unknown = append(unknown, "metric "+name)
		}
		for l := range has {
			labels[l] = true
		}
		for _, l := range matcher.FindAllStringSubmatch(m[1], -1) {
			switch {
			case ofPrometheus(l[1]):
			case has[l[1]] == nil:
				unknown = append(unknown, "label "+l[1]+" of "+name)
			case !slices.Contains(has[l[1]], l[3]) && l[2] != "=~" && l[2] != "!~":
				unknown = append(unknown, "value "+l[0]+" of "+name)
			}
		}
	}
	for _, g := range grouping.FindAllStringSubmatch(expr, -1) {
		for l := range strings.SplitSeq(g[1], ",") {
			if l = strings.TrimSpace(l); !labels[l] && !ofPrometheus(l) {
				unknown = append(unknown, "label "+l)
			}
		}
	}
	for _, l := range legend.FindAllStringSubmatch(strings.Join(text, " "), -1) {
		if !labels[l[1]] && !ofPrometheus(l[1]) && l[1] != "value" {
			unknown = append(unknown, "label "+l[1])
		}
	}
	if len(metricName.FindString(expr)) == 0 {
		unknown = append(unknown, "no metric")
	}
	return unknown
}

// checkRules also holds each rule against its paragraph for operators.
func checkRules(t *testing.T, rules map[string]rule, exported exports) {
	root, err := server.Root()
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(read(t, filepath.Join(root, "docs", "operate.md")), "\n## Alarms and what to do\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var described []string
	for _, m := range regexp.MustCompile(`(?m)^### (\w+)$`).FindAllStringSubmatch(section, -1) {
		described = append(described, m[1])
	}
	slices.Sort(described)
	if names := slices.Sorted(maps.Keys(rules)); !slices.Equal(names, described) || len(names) < 10 {
		t.Errorf("the rules are %v, and docs/operate.md describes %v", names, described)
	}
	for name, r := range rules {
		if unknown := exported.check(r.Query, slices.Collect(maps.Values(r.Annotations))...); unknown != nil {
			t.Errorf("%s names what is not exported: %v", name, unknown)
		}
		if r.Annotations["runbook"] != "docs/operate.md#"+strings.ToLower(name) || r.Annotations["summary"] == "" || r.Annotations["description"] == "" ||
			r.Labels["severity"] != "critical" && r.Labels["severity"] != "warning" {
			t.Errorf("%s: %v %v", name, r.Labels, r.Annotations)
		}
	}
}

// checkDashboard also lets Prometheus evaluate each expression, with values for Grafana's variables.
func checkDashboard(t *testing.T, p prometheus, exported exports) {
	var dashboard struct {
		SchemaVersion int
		Templating    struct {
			List []struct{ Name, Type, Definition string }
		}
		Panels []struct {
			Title, Type, Description string
			Datasource               struct{ UID string }
			Targets                  []struct {
				Expr, LegendFormat string
				Datasource         struct{ UID string }
			}
		}
	}
	d := json.NewDecoder(strings.NewReader(read(t, deploy(t, "grafana-dashboard.json"))))
	if err := d.Decode(&dashboard); err != nil {
		t.Fatal(err)
	}
	variables := dashboard.Templating.List
	if dashboard.SchemaVersion < 39 || len(variables) != 3 || variables[0].Name != "datasource" || variables[0].Type != "datasource" {
		t.Errorf("version %d, variables %+v", dashboard.SchemaVersion, variables)
	}
	values := strings.NewReplacer("$job", "keymill", "$instance", ".+", "$__rate_interval", "1m")
	shown := map[string]bool{}
	for _, panel := range dashboard.Panels {
		if panel.Type != "row" && (panel.Datasource.UID != "${datasource}" || panel.Description == "" || len(panel.Targets) == 0) {
			t.Errorf("panel %s: %+v", panel.Title, panel)
		}
		for _, target := range panel.Targets {
			if unknown := exported.check(target.Expr, target.LegendFormat); unknown != nil {
				t.Errorf("panel %s names what is not exported: %v", panel.Title, unknown)
			}
			if _, err := p.query(values.Replace(target.Expr)); err != nil {
				t.Errorf("panel %s: %v", panel.Title, err)
			}
			for _, m := range metricName.FindAllString(target.Expr, -1) {
				name, _, _ := strings.Cut(m, "{")
				for _, suffix := range []string{"_bucket", "_sum", "_count"} {
					name = strings.TrimSuffix(name, suffix)
				}
				shown[name] = true
			}
		}
	}
	for name := range exported {
		base := name
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			base = strings.TrimSuffix(base, suffix)
		}
		if strings.HasPrefix(name, "keymill_") && !shown[base] {
			t.Errorf("no panel shows %s", base)
		}
	}
}

// TestRulesKeepTheirTests runs promtool on the file as it is: an alert fires after its time, and not before.
func TestRulesKeepTheirTests(t *testing.T) {
	needs(t, "promtool")
	for _, args := range [][]string{{"check", "rules", "keymill.rules.yml"}, {"test", "rules", "keymill.rules.test.yml"}} {
		ctx, cancel := context.WithTimeout(t.Context(), failsafe)
		defer cancel()
		cmd := exec.CommandContext(ctx, "promtool", args...)
		cmd.Dir = filepath.Dir(deploy(t, "keymill.rules.yml"))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	tests := read(t, deploy(t, "keymill.rules.test.yml"))
	for _, m := range regexp.MustCompile(`(?m)- alert: (\w+)$`).FindAllStringSubmatch(read(t, deploy(t, "keymill.rules.yml")), -1) {
		fires := regexp.MustCompile(fmt.Sprintf(`alertname: %s\n +exp_alerts:\n +- exp_labels`, m[1]))
		if !fires.MatchString(tests) || !strings.Contains(tests, "alertname: "+m[1]+", exp_alerts: []") {
			t.Errorf("no test shows when %s fires and when not", m[1])
		}
	}
}

// TestUnknownNamesAreFound shows that the checks of names can fail.
func TestUnknownNamesAreFound(t *testing.T) {
	exported := exports{
		"up": {}, "keymill_ready": {}, "keymill_refresh_total": {"outcome": {"grace", "replay"}},
		"keymill_commit_seconds_bucket": {"le": {"0.1", "+Inf"}},
	}
	for _, tt := range []struct {
		expr, legend string
		unknown      int
	}{
		{`up{job="keymill"} == 0`, "{{instance}}", 0},
		{`sum by (outcome, job) (rate(keymill_refresh_total{outcome="replay", job=~"$job"}[5m])) > 0`, "{{outcome}}", 0},
		{`histogram_quantile(0.99, sum by (le) (rate(keymill_commit_seconds_bucket[5m])))`, "{{ $labels.instance }} {{ $value | humanize }}", 0},
		{`keymill_reddy == 0`, "", 1},
		{`keymill_ready / keymill_reddy`, "", 1},
		{`process_resident_bytes`, "", 1},
		{`keymill_refresh_total{outcome="reply"}`, "", 1},
		{`keymill_refresh_total{outcome!="reply"}`, "", 1},
		{`keymill_refresh_total{result="replay"}`, "", 1},
		{`sum by (result) (keymill_refresh_total)`, "", 1},
		{`keymill_refresh_total`, "{{result}}", 1},
		{`keymill_refresh_total`, "{{ $labels.result }}", 1},
		{`vector(1)`, "", 1},
	} {
		if unknown := exported.check(tt.expr, tt.legend); len(unknown) != tt.unknown {
			t.Errorf("%s, %s: %v", tt.expr, tt.legend, unknown)
		}
	}
}
