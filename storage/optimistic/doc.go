// Package optimistic is the part of a store on the network that is the same for every database: it
// runs functions on records that this node has read before, and lets an Engine compare and write what
// a group of them read and wrote in one request.
package optimistic
