// Package apply brings a store to what files say: audiences, clients, verifiers, and the claims of users.
//
//	files ── Read ──▶ Files ── New ──▶ Plan ── Run ──▶ requests to the admin API
//	                            ▲
//	               the store, through the admin API
//
// A file is YAML with one or several documents, and each document has lists of entries. The keys of an
// entry are those of package api:
//
//	audiences: [{name, alg, ttl, scopes, profile, type, claims, claim_map}]
//	clients:   [{id, public, grants, audiences, scopes, origins, introspect, grace, idle, absolute, claims,
//	             secret_sha256 or secret_file}]
//	verifiers: [{name}]
//	users:     [{user, claims}]            an existing user
//
// What an entry does not say is the default: a file is the whole truth about what it names. Two things are
// not in files, and apply leaves them as they are: whether a client is disabled, and a secret if the file
// names none.
//
// A plan holds the ETag of each entry that it has read, and each step is done only if the entry still has
// it. So what changed after the plan was made is never overwritten. The server remembers what was applied,
// see package applied; only that can be removed.
//
// Only the hash of a secret is kept and sent. No error, plan or log line has a secret, its hash or the value
// of a claim.
package apply
