// Package cli types command lines at the real binary, as an operator would, and
// reads what comes back. One script in testdata is one promise; its first comment
// says which. Apart from what testscript brings, scripts know
//
//	start [--dev] [arg…]     run a server on $WORK/data and wait until it is ready;
//	                         further lines of configuration come from extra.yaml.
//	                         Sets ISSUER, KEYMILL_DATA and KEYMILL_CONFIG
//	stop                     SIGTERM, and a clean end within the promised time
//	kill9                    SIGKILL
//	exits N program arg…     exec that wants exactly this exit code
//	await program arg…       exec, again and again, until it succeeds (20 s)
//	capture NAME regexp      the first group's match in stdout becomes $NAME
//	fetch PATH [Header:value…]   GET $ISSUER/PATH; stdout is status, headers, body
//	post PATH JSON [Header:value…]   POST it to $ISSUER/PATH; stdout the same
//	token CLIENT SECRET [name=value…]   POST /token; stdout is status, headers, body
//	snapshot PATH            remember names, modes and bytes below PATH
//	unchanged PATH           and want exactly them again
//	squat NAME               listen on a loopback port; $NAME is its address
package cli
