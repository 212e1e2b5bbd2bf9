// Package terminal writes what keymill says to the person or the script that runs it, and decodes
// the text that they give in files and on standard input.
//
//	stdout  the answer: a table, or JSON with --json
//	stderr  an error: "keymill: what is wrong", and perhaps "  hint: what to type"
//
// An error is one line and a hint is one line, so that scripts and logs can rely on it.
// Names, records and messages come from other people and programs. No text of theirs
// may move the cursor or forge a line, so everything is made printable here.
//
// Exit codes: 0 done, 1 failed, 2 usage error. A command may give other codes a meaning.
package terminal
