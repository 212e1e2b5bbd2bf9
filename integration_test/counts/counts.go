// Package counts says how often tests repeat what must hold every time. One table has the
// counts of two tiers. The ci tier runs on every change and takes a few minutes on two cores.
// The full tier (KEYMILL_TIER=full, or scripts/test --full) has the counts that a release
// quotes. A ci count is at least a twentieth of its full count, because a run with fewer
// repetitions proves too little.
//
// A test asks for its count by name. A commit that lowers a count says why in its message.
package counts

import (
	"fmt"
	"os"
)

// Tier is the environment variable that chooses the tier: "full" means full, every other value
// and no value mean ci.
const Tier = "KEYMILL_TIER"

// smallestShare is the bound of ci counts: each is at least 1/smallestShare of its full count.
const smallestShare = 20

type row struct{ ci, full int }

// table maps the name of a count to its value in each tier.
var table = map[string]row{
	"simulated-days":      {40, 365}, // keystore: length of the simulated year
	"simulated-node-days": {19, 365}, // keystore: length of the simulated year of three servers

	"verifier-days": {40, 365}, // issuer/verifiers: length of the simulated year

	"verifier-rotations": {4, 20},         // rotations under load, for every verifier
	"verifier-tokens":    {1_000, 10_000}, // tokens that every verifier accepts during them, at least
	"first-key-kills":    {3, 50},         // kill -9 right after the first signature of a new store
	"browser-rounds":     {10, 200},       // refreshes of two tabs at once, in each of three ways
	"console-users":      {500, 10_000},   // that the console's pages list
	"console-clients":    {50, 1_000},     // the same
	"kill9-rounds":       {6, 120},        // kill -9 at a random instant under load

	"kill9-storms":        {10, 200},           // kill -9 while many sessions refresh
	"replay-kills":        {3, 20},             // kill -9 right after the answer to a replay
	"failed-syncs":        {2, 20},             // refreshes during which fdatasync fails
	"parallel-refreshes":  {50, 1_000},         // rounds of 50 refreshes of one token at once
	"cluster-parallel":    {50, 1_000},         // rounds of 50 refreshes of one token at once, over three nodes
	"cluster-cut-seconds": {5, 60},             // in which the connections of three nodes are cut every 50 ms
	"history-restarts":    {5, 100},            // restarts in each history that is checked for linearizability
	"family-models":       {150, 3_000},        // random lives of families, compared with the model
	"rotations":           {50_000, 1_000_000}, // of refresh tokens, while the growth of the store is measured
	"rotating-families":   {500, 10_000},       // families that these rotations use
	"live-families":       {50_000, 1_000_000}, // in a store that a server starts on
	"rotations-of-many":   {10_000, 200_000},   // rotations of those families, while the server's memory is measured
	"parallel-logins":     {500, 500},          // logins at once, while a service fetches tokens

	"flipped-bits":    {2_000, 40_000}, // of a store, each in a copy that is opened, read and written
	"store-mutations": {500, 10_000},   // changes of a closed store, each started once
	"planted-checks":  {1, 7},          // programs with a check removed, which these changes must show
	"master-key-cuts": {20, 400},       // writes after which a change of the master key is cut
	"backup-pairs":    {2, 20},         // backups of live families under load, and as long without one
	"backup-kills":    {6, 60},         // calls at which backup is killed
	"restore-kills":   {12, 120},       // calls at which restore is killed

	"compact-kills": {10, 30}, // kill -9 at system calls of a compact
	"migrate-kills": {4, 80},  // kill -9 at a random instant of a migration, to each kind of store

	"reference-lives": {1, 20}, // random lives of a store, after whose steps doctor finds nothing

	"postgres-skews":    {20, 400},    // rounds in which three nodes could contradict each other
	"postgres-models":   {150, 3_000}, // random transactions that a store in PostgreSQL and bbolt do alike, for each of three seeds
	"postgres-cuts":     {40, 800},    // times that all connections are cut under load, with lost answers
	"postgres-restarts": {1, 10},      // of a server under load, in each of two ways

	"table-lock-seconds": {13, 25}, // that the table of a server under load is locked

	"history-cuts":            {30, 600}, // times that all connections are cut in a history of several nodes
	"history-server-restarts": {1, 20},   // of the server in that history, in each of two ways

	"idle-connections": {250, 5_000}, // held while probes ask for tokens
	"slow-clients":     {50, 1_000},  // that send half of a header or of a body, at the same time
	"slow-readers":     {10, 100},    // that never read their answers
	"large-requests":   {1, 20},      // clients that go on sending bodies of 100 MB and the like

	"released-architectures": {1, 2}, // that scripts/release builds, each twice; compiling one takes a minute of processor time

	"fuzz-inputs": {90_000, 1_800_000}, // for each fuzz test in scripts/test; the full count takes two idle cores 300 s
}

// Of returns the count of that name in the tier of this run. It panics if the table has no such
// name, because that is a mistake in the test.
func Of(name string) int {
	r, ok := table[name]
	if !ok {
		panic(fmt.Sprintf("counts: %q is not in the table", name))
	}
	if os.Getenv(Tier) == "full" {
		return r.full
	}
	return r.ci
}
