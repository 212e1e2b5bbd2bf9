// Package numbers holds the product to what it states about size: how much the store
// grows, how many families fit, how much memory a server takes, and how little others
// notice while many people log in.
//
// Filling a store with a million families over HTTP would take an hour, nearly all of
// it passwords. So the tests open the rooms below the server on its own data directory,
// fill it there, close them, and start the real binary on what they left:
//
//	issuer.StartSession × n ─▶ DIR/data/keymill.db ─▶ keymill serve ─▶ POST /token, /proc/PID
//
// Whatever is a ratio or a bound is asserted; whatever belongs to the machine is printed
// only. bench, next door, compares rates.
package numbers
