// Package browser tests the browser login endpoint with a real browser. A page that uses Vue,
// written as a team would write it, runs in headless Chromium. Chromium alone decides what a
// cookie's attributes, SameSite, CORS, Sec-Fetch-Site and navigator.locks mean:
//
//	                        ┌──▶ proxy ──▶ keymill     https://id.keymill.test
//	Chromium ── page/ ──────┤
//	  ▲  https://app.…      └──▶ orders, the protected API
//	  │
//	  └─ the DevTools protocol, over two pipes: click, read, inspect the cookie jar
//
// The proxy terminates TLS, as the one in front of a real Keymill does. It records every
// exchange: what the browser sent, and every answer that a page could have read. All tests run
// twice, over https with a certificate of the test and over loopback http, where the cookie has
// another name and no Secure attribute.
//
// Chromium also walks through the pages of keymill console, where axe-core looks for barriers.
//
// The page is served without a bundler, from page/ and its node_modules, so the code that runs
// is the code in the repository. scripts/install-deps installs Chromium and the packages.
package browser
