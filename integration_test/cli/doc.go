// Package cli runs command lines with the real binary, as an operator would, and checks the
// output. Each script in testdata tests one promise, which its first comment states. Beside the
// commands of testscript, scripts have these:
//
//	start [--dev] [arg…]     run a server on $WORK/data and wait until it is ready.
//	                         extra.yaml adds lines to its configuration.
//	                         Sets ISSUER, KEYMILL_DATA and KEYMILL_CONFIG
//	sigterm                  SIGTERM; want a clean end within the promised time
//	kill9                    SIGKILL
//	exits N program arg…     exec; want exactly this exit code
//	await program arg…       exec, repeated until it succeeds (awaitLimit)
//	capture NAME regexp      $NAME is the match of the first group in stdout
//	fetch PATH [Header:value…]   GET $ISSUER/PATH; stdout is status, headers, body
//	post PATH JSON [Header:value…]   POST it to $ISSUER/PATH; stdout the same
//	token CLIENT SECRET [name=value…]   POST /token; stdout is status, headers, body
//	snapshot PATH            record names, modes and contents below PATH
//	unchanged PATH           want the same names, modes and contents
//	occupy NAME              listen on a loopback port; $NAME is its address
package cli
