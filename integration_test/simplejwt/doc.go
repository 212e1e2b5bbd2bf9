// Package simplejwt compares the server's simplejwt login endpoint with simplejwt itself. Front
// ends depend on what simplejwt answers, not only on what its documentation says.
//
//	django/project.py ── prepare, dumpdata auth.user ──▶ keymill user import
//	     │                                                      │
//	simplejwt's own views                           keymill's endpoint
//	     ▲                                                      ▲
//	     └────────── the same request to both ──────────────────┘
//	                          │
//	      one line for each answer: equal, or a row of the table of differences
//
// Every row of the matrix is a request, made for each side with the tokens of that side. An
// answer becomes one line: status, body with the tokens masked, challenge. Where the lines
// differ, differences_test.go must have both lines and the reason. A row of that table fails if
// the lines are equal. So the table is exact, and documentation can rely on it.
//
// The same project, configured to trust the token server, is the protected API. It verifies with
// simplejwt's ordinary JWTAuthentication and finds the user by user_id.
package simplejwt
