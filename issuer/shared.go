package issuer

import (
	"net/netip"

	"keymill/storage"
)

// sharedGenerations in a row, each answered to two addresses, suggest that a token has two holders.
const sharedGenerations = 5

// noteElsewhere notes in the record of f that the current token was given out again, to another address than the one
// that got it first. An answer to the same address writes nothing, see package retry. This one must be known to all
// servers that share the store: the two holders of a token may use two of them.
func (f *family) noteElsewhere(tx storage.Tx) error {
	f.rec.elsewhere = true
	f.rec.addRetries(1)
	return tx.Put(familyKey(f.id), f.rec.encode())
}

// sameAddress reports whether the current token of f went to this address first.
func (i *Issuer) sameAddress(f *family, from netip.Addr) bool {
	return f.rec.address == i.refreshSecrets.Fingerprint(f.rec.secret, from)
}

func (rec *familyRecord) addRetries(n int) {
	rec.retries = uint16(min(maxRetries, int(rec.retries)+n))
}

// endGeneration counts what happened to the current token of a record that is about to rotate. It reports whether
// the token looks shared from now on.
func (rec *familyRecord) endGeneration(retries int) (shared bool) {
	rec.addRetries(retries)
	elsewhere := rec.elsewhere
	rec.elsewhere = false
	switch {
	case elsewhere && rec.shared < 255:
		rec.shared++
		return rec.shared == sharedGenerations
	case !elsewhere && rec.shared < sharedGenerations: // a token that once looked shared stays so
		rec.shared = 0
	}
	return false
}
