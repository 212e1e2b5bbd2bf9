// Package keystore holds the private keys: it mints, seals, schedules and uses them, and
// never gives one out.
//
// A key is not rotated by an event. It is born with instants, and where it stands is a
// pure function of those and the clock:
//
//	         Publish        Sign           Stop            Drop
//	 reserve ──┼── spare ─────┼── active ────┼── retiring ───┼── gone ──▶ time
//	in JWKS: no      yes             yes            yes            no
//	signs:   no      no              yes            no             no
//
// The keys of one algorithm form a ring. A ring always has one key that signs, one
// published spare and one unpublished reserve, so that rotating and revoking only move
// instants; RSA keys are made in the background, never on a request. The rules:
//
//   - Sign − Publish ≥ propagation, counting only time in which the set was served.
//   - Stop of a key is Sign of the next; without a durable successor there is no Stop.
//   - Drop = Stop + cap + skew, where cap is the longest lifetime that an audience of
//     the algorithm had while the key could sign. The cap of a ring only rises: lowering
//     a lifetime keeps a key longer than it must be, never shorter.
//   - The private half is erased at Stop + skew.
//   - A key signs only after it is durable, since signing reads committed state alone.
//
// Files: schedule.go decides (pure functions of ring, policy and now), clock.go says what
// time it is, seal.go and keyring.go keep secrets at rest, rings.go holds what signing
// needs in memory, loop.go does what is due, operator.go what people ask for.
//
// Storage layout (values are JSON, except sealed bytes):
//
//	meta                 identity of the database (storage.Meta)
//	keyring              the data key, sealed under the master key
//	clock                the highest time seen, and the clock of erasures
//	ring/<alg>           cap, and the keys that have not stopped, in the order they sign
//	retired/<alg>/<kid>  public halves that verifiers still need, until Drop
//	private/<kid>        the private half (PKCS #8), sealed under the data key
//	tombstone/<kid>      kids that never come back: of revoked keys, also their
//	                     thumbprints, and of dropped keys that others had named
//
// Erasing deletes the sealed record. Its old bytes can stay in a free page of the store's
// file until the page is used again, unreadable without the master key.
package keystore
