// Package optimistic is the part of a store on the network that is the same for every database. A
// Store runs functions on records that this node has read before, without locks, and lets an Engine
// compare and write what a group of them read and wrote in one request.
//
//	Update, in its caller's goroutine
//	  fn ──▶ storage.Overlay ──▶ run: cache ──▶ fetchers: all callers in one Fetch
//	   ▲       │ keys, versions and writes
//	   │       ▼
//	   │     queue ──▶ committer: a group, one Commit ──▶ results
//	   └── again, on the group's records, if what it read has changed
//
//	View
//	  fn ──▶ run: cache, fetchers ──▶ keys and versions ──▶ one Commit without writes for all Views
//	   ▲                                                       │ they held: results
//	   └── again, on the records of that instant ◀─────────────┘ they did not
//
// # Runs that are discarded
//
// The cache is not told what other nodes write, and one run can read records of two instants. So
// nothing that a function returns counts before the Engine has compared the versions of all records
// that it read: no result, no error and no panic. If all of them hold, the run is the same as one at
// the instant of that comparison. Else it is discarded, and the function runs again. A function that
// reads nothing has nothing to compare. Only runtime.Goexit cannot be discarded: it ends the caller and
// writes nothing.
//
// # Groups
//
// A committer takes the calls that wait and commits them together, in the order in which they came. It waits for a few
// more calls only while another committer writes. If the last group had several calls, it first lets the callers run that
// can. An Update that is alone takes the place of the committer, if there is one. A call
// that read what an earlier call of the group writes runs again on the writes of that call. So does one
// that read a record which has changed: the answer of the Engine holds the record as it is now, and
// the group is sent again without a further read. The function always runs in the goroutine of its
// caller, which waits. A function that then reads a record which this node does not have, or
// scans, is sent back to its caller, and its call comes again with a later group. All calls
// of a group are answered after its commit, also those that only read or failed.
//
// # Fairness
//
// A call whose function has run maxRuns times without a result runs in Engine.Exclusive, where no one
// else writes. So there is a bound to the runs of every function, whatever other nodes do.
//
// # Views
//
// A View has a committer of its own, so it waits for no write. While it waits for the comparison, its caller runs the second
// function of a storage.ViewThen. If a record has changed, the function
// runs again on the records of the instant of the comparison, and that run needs no other one. A View that
// scans, or reads many keys, uses Engine.Snapshot.
//
// # Failures
//
// An error of the Engine is returned to the calls that it concerns, and to no others. An unknown outcome concerns
// a whole group. The Store drops what it had cached of the records of the failed batch.
package optimistic
