package crash

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"regexp"
	"slices"
	"strings"
)

// Members of records that an attacker would change. The other bytes stay: a record with members in
// another order is refused for that alone.
var (
	publicMember = regexp.MustCompile(`"public":"[^"]*"`)
	secretMember = regexp.MustCompile(`"sha256":"[^"]*"`)
	kidMember    = regexp.MustCompile(`"kid":"[^"]*"`)
	nameMember   = regexp.MustCompile(`"name":"[^"]*"`)
	ttlMember    = regexp.MustCompile(`"ttl":\d+`)
	disabled     = regexp.MustCompile(`"disabled":true,?`)
)

// A forger writes records as an attacker would, without the master key.
type forger struct {
	*breeder
	records        map[string]string
	public, secret string // members with his own key and his own secret
}

// forge makes a record that gives an attacker something, or one of any kind at a key of its own.
func forge(b *breeder, records map[string]string) string {
	public, _, _ := ed25519.GenerateKey(nil)
	der, _ := x509.MarshalPKIXPublicKey(public)
	secret := sha256.Sum256([]byte(evilSecret))
	f := &forger{b, records,
		`"public":"` + base64.StdEncoding.EncodeToString(der) + `"`,
		`"sha256":"` + base64.StdEncoding.EncodeToString(secret[:]) + `"`,
	}
	forgeries := []func() string{
		f.keyInRing, f.retiredKey, f.retiredPublic, f.clientSecret, f.newClient, f.enable, f.newUser, f.tombstone,
		func() string { return f.put(f.of("family/"), f.of("family/")) },
		func() string { return f.put(f.of("refresh/secret/"), "refresh/secret/9") },
		func() string { return f.put(f.of("private/"), f.of("private/")) },
		func() string { key := f.of("audience/"); return f.put(key, key, ttlMember, `"ttl":86399`) },
		func() string { return f.put("epoch", "epoch") },
		func() string { key := b.any(records); return f.put(key, key+"0") },
		func() string { key := b.any(records); return f.put(key, key) },
	}
	return forgeries[b.random.IntN(len(forgeries))]()
}

// of returns a key of a kind.
func (f *forger) of(prefix string) string {
	var keys []string
	for key := range f.records {
		if strings.HasPrefix(key, prefix) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys[f.random.IntN(len(keys))]
}

// put writes the record of one key to a key, with pairs of a member and what replaces it. The tag stays
// or is random.
func (f *forger) put(from, to string, members ...any) string {
	value := f.records[from]
	body, tail := value[:max(0, len(value)-17)], []byte(value[max(0, len(value)-17):])
	if f.random.IntN(2) == 0 && len(tail) > 1 {
		rand.Read(tail[1:])
	}
	for n := 0; n < len(members); n += 2 {
		member := members[n].(*regexp.Regexp)
		if found := member.FindStringIndex(body); found != nil {
			body = body[:found[0]] + members[n+1].(string) + body[found[1]:]
		}
	}
	f.records[to] = body + string(tail)
	return to
}

func (f *forger) keyInRing() string {
	return f.put("ring/EdDSA", "ring/EdDSA", publicMember, f.public)
}

func (f *forger) retiredKey() string {
	return f.put("retired/EdDSA/imported", "retired/EdDSA/evil", publicMember, f.public, kidMember, `"kid":"evil"`)
}

func (f *forger) retiredPublic() string {
	key := f.of("retired/")
	return f.put(key, key, publicMember, f.public)
}

func (f *forger) clientSecret() string {
	key := f.of("client/")
	return f.put(key, key, secretMember, f.secret, disabled, "")
}

func (f *forger) newClient() string {
	f.put("client/billing", "client/evil", secretMember, f.secret)
	return f.put("id/billing", "id/evil")
}

func (f *forger) enable() string {
	key := f.of("user/")
	return f.put(key, key, disabled, "")
}

func (f *forger) newUser() string {
	return f.put(f.of("user/"), "user/evil", disabled, "", nameMember, `"name":"evil"`)
}

func (f *forger) tombstone() string {
	key := f.of("tombstone/")
	delete(f.records, key)
	return key
}
