// Package keystore holds the private keys: it makes, seals, schedules and uses them, and
// never exports one.
//
// A key stores the instants of its life. Its stage is a pure function of them and of the
// decision time:
//
//	         Publish        Sign           Stop            Drop
//	 reserve ──┼── spare ─────┼── active ────┼── retiring ───┼── gone ──▶ time
//	in JWKS: no      yes             yes            yes            no
//	signs:   no      no              yes            no             no
//
// The keys of one algorithm form a ring. A ring normally has one active key, one published
// spare and one unpublished reserve, so rotating and revoking only change instants. New RSA
// keys are made in the background, never in a request. The rules:
//
//   - A key is published for at least the propagation time before it signs. Only time in
//     which the set was served counts. A flush breaks this rule on purpose, for the reserve.
//   - A key stops when the next one begins to sign: its Stop time is the Sign time of that
//     key. A key without a durable successor does not stop.
//   - Drop = Stop + maximum token lifetime + skew. The maximum is the longest lifetime that
//     an audience of the algorithm had while the key could sign. The maximum of a ring only
//     rises: after a lifetime is lowered, a key stays longer than necessary, never shorter.
//   - The private half is erased at Stop + skew.
//   - A key signs only after it is durable, because Sign uses committed state only.
//
// # Clocks
//
// Every instant belongs to one of four clocks (internal/clock, time.go):
//
//	decision time  Now          orders all decisions; the highest time seen, never goes back
//	wall time      WallTime     iat and exp of tokens; the wall clock while it can be trusted
//	erasure time   ErasureTime  for what cannot be undone; counts observed uptime only
//	served time    ServedTime   uptime of all processes together; has no date
//
// The wall clock of a machine can jump by years. A rotation that follows it would use keys
// that caches do not know, and an erasure that follows it could not be undone. So a jump
// freezes the schedule until the wall clock is right again or has run steadily for an hour.
//
// # Several nodes
//
// On a store that several servers share, each of them is a node with a nodes.Registry (poll.go):
//
//	every p:  View keys, clock, node/* ──▶ adopt times, replace the snapshot if keys changed ──▶ Put node/<id>
//	sign:     only within 3p of the last read, and with a wall clock that agrees with the others
//	decide:   Sign and Stop are 3p ahead, when no node can use what it read before
//
// A revocation takes effect at once, and on the last node within 3p.
//
// # Record layout
//
// Values are JSON, except sealed bytes:
//
//	meta                 identity of the database (storage.Meta)
//	keyring              the data key, sealed under the master key
//	clock                the clocks, as the last process knew them
//	ring/<alg>           maximum token lifetime, and the keys that have not stopped, in signing order
//	retired/<alg>/<kid>  public halves that verifiers still need, until Drop
//	private/<kid>        the private half (PKCS #8), sealed under the data key
//	certificate/<kid>    the self-signed certificate of a published key, DER
//	tombstone/<kid>      kids that must not be used again: of revoked keys, also their
//	                     thumbprints, and of dropped keys that were imported
//
// Erasing deletes the sealed record. Its old bytes can stay in a free page of the store's
// file until the page is used again. They are unreadable without the master key.
//
// # What a crash leaves behind
//
//	before Create's transaction    an empty store, which Open refuses; Create can be repeated
//	after it                       an identity and a data key; the first Open makes the keys
//	before a change commits        the keys as they were; no token was signed by the new key
//	after it, before the response  the change; the next start reads it from the store
//	between two clock records      up to one heartbeat counts as downtime: keys may sign
//	                               later than planned, never earlier
//
// # Files
//
// internal/schedule decides, in pure functions of ring, policy and decision time. internal/clock and
// time.go compute the clocks. internal/vault and internal/keyring keep secrets at rest. rings.go holds
// what signing needs in memory, reload.go reads it, poll.go reads it again on a shared store, and internal/signing signs. loop.go and
// reserve.go do what is due. operator.go and import.go do what operators ask for.
package keystore
