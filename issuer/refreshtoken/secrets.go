package refreshtoken

import (
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"keymill/issuer/address"
	"keymill/issuer/refusal"
	"keymill/keystore"
	"keymill/storage"
)

// SecretPrefix begins the key of each secret in the store.
const (
	SecretPrefix = "refresh/secret/"
	secretEnd    = "refresh/secret0" // '0' follows '/'
)

// ParseSecretKey returns the number of the secret that is stored under the key.
func ParseSecretKey(key string) (number byte, ok bool) {
	n, err := strconv.ParseUint(strings.TrimPrefix(key, SecretPrefix), 10, 8)
	return byte(n), err == nil && n > 0 && SecretKey(byte(n)) == key
}

// SecretKey returns the key under which a secret is stored.
func SecretKey(number byte) string { return fmt.Sprintf("%s%03d", SecretPrefix, number) }

const (
	// useAfter is how long a secret is stored before it makes MACs. Every server has read it then, also if their
	// clocks differ by four minutes.
	useAfter = 5 * time.Minute
	// reloadEvery bounds how often tokens with unknown numbers make a server read the secrets.
	reloadEvery = 5 * time.Second

	randomBytes = 32 // of a secret
)

// Secrets are the keys of the MACs of one store. It is safe for concurrent use.
type Secrets struct {
	store    storage.Store
	database string
	vault    *keystore.Vault
	set      atomic.Pointer[set]
	readings atomic.Uint64 // how many have begun

	reloading chan struct{} // has room for one, who owns what follows
	looked    time.Time     // when the server had last read the secrets because of an unknown number
	failed    error         // of that
}

// A set is what Secrets have read once. It does not change.
type set struct {
	began  uint64           // which reading it is from
	label  []byte           // that the MAC of a token begins with
	keys   map[byte]*secret // number → secret
	sorted []*secret        // by number
}

// A secret is 32 random bytes. All but the first one have the time of decisions when they were published behind it, in
// Unix ms and eight bytes, as a part of the secret.
type secret struct {
	number    byte
	mac       macFunc
	published time.Time        // zero for the first one
	addresses func() hash.Hash // of the addresses where users have logged in
}

// Load unseals the secrets of the store with that id. It makes the first one in a new store, and reports that.
func Load(tx storage.Tx, store storage.Store, database string, vault *keystore.Vault) (s *Secrets, first bool, err error) {
	s = &Secrets{store: store, database: database, vault: vault, reloading: make(chan struct{}, 1)}
	read, err := s.read(tx)
	if err == nil && len(read.sorted) == 0 {
		first = true
		if err = s.put(tx, 1, nil); err == nil {
			read, err = s.read(tx)
		}
	}
	s.set.Store(read)
	return s, first, err
}

func (s *Secrets) read(r storage.Reader) (*set, error) {
	read := newSet(s.database)
	for e, err := range r.Scan(SecretPrefix, secretEnd) {
		if err != nil {
			return nil, err
		}
		number, ok := ParseSecretKey(e.Key)
		if !ok {
			return nil, storage.Damaged(e.Key, "it is not the number of a secret")
		}
		key, err := s.vault.Open(e.Key, e.Value)
		if err != nil {
			return nil, err
		}
		if err := read.add(s.database, number, key); err != nil {
			return nil, err
		}
	}
	return read, nil
}

func newSet(database string) *set {
	return &set{label: []byte(purpose + database), keys: map[byte]*secret{}}
}

// add adds the secret with the next number. The key of addresses comes from it, with a label of its own:
// these hashes and the MACs of tokens tell nothing about each other.
func (s *set) add(database string, number byte, key []byte) error {
	addresses, err := hkdf.Key(sha256.New, key, []byte(database), "keymill login address v1", sha256.Size)
	if err != nil {
		return err
	}
	one := &secret{number: number, mac: newMAC(key), addresses: func() hash.Hash { return hmac.New(sha256.New, addresses) }}
	if len(key) == randomBytes+8 {
		one.published = time.UnixMilli(int64(binary.BigEndian.Uint64(key[randomBytes:])))
	}
	s.keys[number], s.sorted = one, append(s.sorted, one)
	return nil
}

// put stores a new secret.
func (s *Secrets) put(tx storage.Tx, number byte, more []byte) error {
	key := make([]byte, randomBytes, randomBytes+8)
	rand.Read(key)
	sealed, err := s.vault.Seal(SecretKey(number), append(key, more...))
	if err != nil {
		return err
	}
	return tx.Put(SecretKey(number), sealed)
}

// Publish stores another secret in the caller's transaction, at the time now of decisions. It returns its number and
// when servers begin to use it. It is refused while an earlier one is not used yet. Call Reload afterwards.
func (s *Secrets) Publish(tx storage.Tx, now time.Time) (number byte, used time.Time, err error) {
	read, err := s.read(tx)
	if err != nil {
		return 0, used, err
	}
	if len(read.sorted) == 0 {
		return 0, used, storage.Damaged(SecretKey(1), "it is missing, although every store that was served has it")
	}
	newest := read.sorted[len(read.sorted)-1]
	switch wait := newest.published.Add(useAfter).Sub(now); {
	case newest.number == math.MaxUint8:
		return 0, used, refusal.New("in_use", "all %d numbers of refresh secrets are used", math.MaxUint8)
	case wait > 0:
		return 0, used, refusal.New("in_use", "refresh secret %d is not used yet; try again in %s", newest.number, wait.Round(time.Second))
	}
	return newest.number + 1, now.Add(useAfter), s.put(tx, newest.number+1, binary.BigEndian.AppendUint64(nil, uint64(now.UnixMilli())))
}

// Reload reads the secrets again. A server of a shared store does so every 10 s.
func (s *Secrets) Reload(ctx context.Context) error {
	began := s.readings.Add(1)
	var read *set
	err := s.store.View(ctx, func(r storage.Reader) (err error) { read, err = s.read(r); return err })
	if err != nil {
		return fmt.Errorf("read refresh secrets: %w", err)
	}
	read.began = began
	for last := s.set.Load(); len(read.sorted) > 0 && last.began < began && !s.set.CompareAndSwap(last, read); {
		last = s.set.Load() // a set never replaces one whose reading began later
	}
	return nil
}

// reloadFor reads the secrets again for a token whose number was not in seen, unless that has happened since
// then, or in the last five seconds.
// A store that is away can take its whole deadline to say so. The five seconds begin after that, so that the callers who
// waited share the answer, and do not wait for one read after the other.
func (s *Secrets) reloadFor(ctx context.Context, seen *set) error {
	select {
	case s.reloading <- struct{}{}:
		defer func() { <-s.reloading }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if s.set.Load() != seen {
		return nil
	}
	if s.looked.IsZero() || time.Since(s.looked) >= reloadEvery {
		s.failed = s.Reload(context.WithoutCancel(ctx))
		s.looked = time.Now()
	}
	return s.failed
}

// Newest returns the number of the secret that makes MACs at the time now of decisions.
func (s *Secrets) Newest(now time.Time) byte {
	sorted := s.set.Load().sorted
	for _, one := range slices.Backward(sorted) {
		if !now.Before(one.published.Add(useAfter)) {
			return one.number
		}
	}
	return sorted[0].number
}

var addressLabel = []byte("keymill address v1")

// Fingerprint returns a short keyed hash of an address, with the secret of that number. It shows whether two addresses
// differ, but not what they are. An IPv6 subscriber has a /64, so only that part counts. Without the secret it is zero.
func (s *Secrets) Fingerprint(number byte, from netip.Addr) (sum [4]byte) {
	if one := s.set.Load().keys[number]; one != nil {
		sum = [4]byte(one.mac(nil, addressLabel, address.Subscriber(from).AsSlice()))
	}
	return sum
}

// HashOfAddresses returns the keyed hash of the addresses where users have logged in. It comes from the oldest secret, so
// that a new one forgets no address.
func (s *Secrets) HashOfAddresses() hash.Hash { return s.set.Load().sorted[0].addresses() }
