// Package simplejwt holds the server's simplejwt door against simplejwt itself: what
// somebody else's front end was written for is not what its documentation says but
// what it answers.
//
//	django/project.py ── prepare, dumpdata auth.user ──▶ keymill user import
//	     │                                                      │
//	simplejwt's own views                               keymill's door
//	     ▲                                                      ▲
//	     └────────── the same request to both ──────────────────┘
//	                          │
//	      one line for each answer: equal, or a row of the table of differences
//
// Every row of the matrix is a request, made for each side with what that side has
// issued. An answer becomes one line: status, body with the tokens masked, challenge.
// Where the lines differ, differences_test.go has to say both of them and why, and a
// row of that table which does not differ any more fails as well, so the table is
// what the door's documentation may promise.
//
// The same project, told to trust the token server, is the protected API: it verifies
// with simplejwt's ordinary JWTAuthentication and finds the caller by user_id.
package simplejwt
