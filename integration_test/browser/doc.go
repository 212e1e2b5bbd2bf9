// Package browser asks a real browser what the cookie door promises to single page
// apps. A page that uses Vue, written as a team would write it, runs in headless
// Chromium, which alone decides what a cookie's attributes, SameSite, CORS,
// Sec-Fetch-Site and navigator.locks mean:
//
//	                        ┌──▶ front ──▶ keymill     https://id.keymill.test
//	Chromium ── page/ ──────┤
//	  ▲  https://app.…      └──▶ orders, the protected API
//	  │
//	  └─ the DevTools protocol, over two pipes: click, read, look into the cookie jar
//
// The front is a proxy that speaks TLS, as one does in front of every Keymill, and
// remembers what passed: what the browser really sent, and every answer that a page
// could have read. All of it happens twice, over https with a certificate of the test
// and over loopback http, whose cookie is another.
//
// The page is served as it is, from page/ and its node_modules: no bundler stands
// between what is read here and what runs. scripts/install-deps brings Chromium and
// the packages.
package browser
