// Package openapi generates the OpenAPI 3.1 document of the admin API from its routes and types, and
// compares the document with what the server answers.
//
// The document is issuer/endpoint/admin/openapi.json. The server serves it. After a change of a route, a
// type or a comment of a field:
//
//	go test -run TestTheDocumentIsUpToDate -update
//
// Descriptions are the comments of the types and fields in the code. In a request a member is required if
// the comment of its field says "required", and every other one may be null, which counts as absent. In an
// answer all members are there unless the tag of the field says omitempty. A comment that lists values in
// quotes, such as "a", "b" or "c", makes an enum.
package openapi
