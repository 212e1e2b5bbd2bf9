// Package numbers tests what the documents state about size and load: how much the store grows, how
// many families fit, how much memory a server uses, and how much slower other requests are while many
// users log in.
//
// Over HTTP it would take an hour to fill a store with a million families, nearly all of it for
// passwords. So the tests open the packages below the HTTP server on its data directory, fill the
// store there, close it, and start the real binary with it:
//
//	issuer.StartSession × n ─▶ DIR/data/keymill.db ─▶ keymill serve ─▶ POST /token, /proc/PID
//
// The tests assert ratios and bounds. They only print what depends on the machine. The module bench
// compares rates.
package numbers
