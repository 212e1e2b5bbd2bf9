// Package counts holds how often the tests repeat what must hold every time: one
// table, two tiers. The ci tier runs on every change and fits two cores and a few
// minutes; the full tier (KEYMILL_TIER=full, or scripts/test --full) runs the
// numbers that a release quotes. No ci count may fall under a twentieth of its full
// one, so that a quick run stays evidence and does not become decoration.
//
// A test asks for its count by name. Lowering a number here is a change that its
// commit message has to justify.
package counts

import (
	"fmt"
	"os"
)

// Tier is the environment variable that chooses the tier: "full", or anything
// else (and nothing) for ci.
const Tier = "KEYMILL_TIER"

// smallestShare: a ci count is at least 1/smallestShare of its full count.
const smallestShare = 20

type row struct{ ci, full int }

// table maps what is counted to its two counts.
var table = map[string]row{
	"simulated-days": {73, 365}, // keystore: days that the simulated year has

	"verifier-rotations": {4, 20},         // rotations that every verifier lives through under load
	"verifier-tokens":    {1_000, 10_000}, // tokens that every verifier accepts meanwhile, at least
	"first-key-kills":    {5, 50},         // kill -9 right after the first signature of a new store
	"browser-rounds":     {20, 200},       // refreshes of two tabs at once, in each of three ways
	"kill9-rounds":       {8, 120},        // kill -9 at a random instant under load

	"kill9-storms":       {10, 200},           // kill -9 in the middle of a refresh storm
	"replay-kills":       {3, 20},             // kill -9 right after the answer to a replay
	"failed-syncs":       {2, 20},             // fdatasync that fails in a refresh
	"parallel-refreshes": {50, 1_000},         // rounds of 50 refreshes of one token at once
	"history-restarts":   {8, 100},            // restarts in each history that is checked for linearizability
	"family-models":      {150, 3_000},        // random lives of families against the model
	"rotations":          {50_000, 1_000_000}, // of refresh tokens, after which the store has hardly grown
	"rotating-families":  {500, 10_000},       // whose they are
	"live-families":      {50_000, 1_000_000}, // in a store that a server starts on
	"rotations-of-many":  {10_000, 200_000},   // of those, while its memory is watched
	"parallel-logins":    {500, 500},          // at once, while services fetch tokens

	"fuzz-seconds": {30, 300}, // that scripts/test looks for bad tokens, claims and sets, each
}

// Of returns the count of name in the tier of this run. An unknown name is a
// mistake in the test that asks, so it panics.
func Of(name string) int {
	r, ok := table[name]
	if !ok {
		panic(fmt.Sprintf("counts: no row is called %q", name))
	}
	if os.Getenv(Tier) == "full" {
		return r.full
	}
	return r.ci
}
