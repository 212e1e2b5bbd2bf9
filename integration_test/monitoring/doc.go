// Package monitoring holds the files for operators below scripts/deploy against a real server and Debian's
// Prometheus:
//
//	keymill ──metrics.listen──▶ Prometheus with keymill.rules.yml ──▶ alerts
//
// The rules are those of the file, with "for" set to 0s. Prometheus scrapes and evaluates once a second, a
// replay, damage and the end of the server happen, and the alerts must fire. Every name and label of the rules and
// of the dashboard must be in the server's own metrics. promtool tests the rules with its own clock.
//
// Servers that share a store in PostgreSQL are watched as well: one of them disappears, and then the database.
//
// Prometheus is also a client, with the job of docs/verify/prometheus.md:
//
//	keymill ──token──▶ Prometheus ──scrape with it──▶ a service that verifies with package jwks
package monitoring
