// Package schedule decides when a key is published, signs, stops and is dropped, in pure functions of ring,
// policy and decision time. It reads no clock and no store.
//
//	        Publish        Sign           Stop            Drop
//	reserve ──┼── spare ─────┼── active ────┼── retiring ───┼── gone ──▶ time
package schedule
