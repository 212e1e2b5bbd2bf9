// Package cluster runs scripts/cluster, breaks its parts one after the other, and checks what clients saw:
//
//	clients that refresh ──▶ nginx ──▶ three nodes ──▶ PostgreSQL and its standby
//	    └─▶ jwks.Verifier, for each access token
//
// A client keeps the last refresh token that it was given. Nothing that was acknowledged is lost if that token always
// refreshes. A client that gets an error, or no answer, sends the same request again, as clients do.
package cluster
