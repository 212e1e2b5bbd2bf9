// Package crash tests what survives when a running server is killed with kill -9 at a bad moment,
// when its disk is full, and when the disk fails. What the server acknowledged before must hold
// afterwards. The kernel's page cache survives a kill, so these tests do not cover a loss of
// power. The tests of storage/bolt check when data is synced.
package crash
