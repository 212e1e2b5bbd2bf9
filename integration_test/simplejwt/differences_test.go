package simplejwt

// A line is an answer as answer.line returns it.
type line string

// A difference is a row that the two sides answer differently, on purpose.
type difference struct {
	theirs, ours line
	why          string
}

// The answers that many rows share.
const (
	tokensGiven   line = `200 {"access":"token","refresh":"token"}`
	done          line = `200 {}`
	noAccount     line = `401 {"detail":"No active account found with the given credentials"} | Bearer realm="api"`
	notValid      line = `401 {"code":"token_not_valid","detail":"Token is invalid or expired"} | Bearer realm="api"`
	onBlacklist   line = `401 {"code":"token_not_valid","detail":"Token is blacklisted"} | Bearer realm="api"`
	badJSON       line = `400 {"detail":"JSON parse error - …"}`
	tooLarge      line = `413 {"detail":"the body is larger than 16384 bytes"}`
	notFound      line = `404 {"error":"not_found","error_description":"this path does not exist"}`
	inTheURL      line = `400 {"detail":"parameters must be in the request body, not in the URL"}`
	notAcceptable line = `406 {"detail":"Could not satisfy the request Accept header."}`
)

// The reasons that many rows share.
const (
	oneSession  = "a login is one session: when it ends, all its tokens are revoked, the access tokens too"
	noRedirect  = "a redirect would send a password to another path, or lose it"
	oneForm     = "every answer is JSON, and Accept is only a preference (RFC 9110, section 12.5.1)"
	oneSpelling = "names are compared after NFKC, so that names that look alike are one user"
	onlyUTF8    = "JSON that is exchanged between systems is UTF-8 (RFC 8259, section 8.1)"
	onlyOnce    = "two programs that read different members of one object would disagree"
	bounded     = "the size of a request is limited"
	noPages     = "the framework describes its view; here OPTIONS is for preflights only"
)

// differences maps a row to the answer of each side.
func differences() map[string]difference {
	all := map[string]difference{
		"obtain: the name in another normal form":                    {noAccount, tokensGiven, oneSpelling},
		"obtain: the name in wide letters":                           {noAccount, tokensGiven, oneSpelling},
		"obtain: a password that begins and ends with white space":   {noAccount, tokensGiven, "Django's own forms keep the white space of a password, and simplejwt cannot log such users in"},
		"obtain: a member twice, the last one good":                  {tokensGiven, badJSON, onlyOnce},
		"obtain: a member twice, the last one bad":                   {noAccount, badJSON, onlyOnce},
		"obtain: a body of a megabyte":                               {noAccount, tooLarge, bounded},
		"obtain: UTF-16":                                             {tokensGiven, badJSON, onlyUTF8},
		"obtain: UTF-8 that claims to be UTF-16":                     {badJSON, tokensGiven, onlyUTF8},
		"obtain: Accept: what a browser sends":                       {"200 text/html", tokensGiven, oneForm},
		"obtain: Accept: HTML":                                       {`401 text/html | Bearer realm="api"`, noAccount, oneForm},
		"obtain: Accept: XML":                                        {notAcceptable, tokensGiven, oneForm},
		"obtain: Accept: nonsense":                                   {notAcceptable, tokensGiven, oneForm},
		"obtain: another format in the query":                        {`404 {"detail":"Not found."}`, tokensGiven, oneForm},
		"obtain: the credentials in the query":                       {`400 {"password":["This field is required."],"username":["This field is required."]}`, inTheURL, "a client that sends a password in a URL must get an error"},
		"obtain: a path below":                                       {"404 text/html", notFound, "every answer is JSON"},
		"obtain: the eleventh wrong password in a row":               {noAccount, `429 {"detail":"Request was throttled. Expected available in … seconds."}`, "guessing is slowed down"},
		"obtain: an origin that no client lists":                     {tokensGiven, `403 {"detail":"pages of this origin may not use this path"}`, "a page of another origin could use up its visitor's failed logins"},
		"obtain: no media type":                                      {`415 {"detail":"Unsupported media type \"text/plain\" in request."}`, `415 {"detail":"Unsupported media type \"\" in request."}`, "Python's own server adds a media type; other servers do not"},
		"obtain: a form in parts that is cut off":                    {`400 {"password":["This field is required."]}`, `400 {"detail":"Multipart form parse error - it is malformed, too long or has a field twice"}`, "an incomplete form is refused"},
		"refresh: the successor of a token that was presented twice": {tokensGiven, onBlacklist, "one of the two clients that presented it has a stolen token"},
		"refresh: the successor of a blacklisted token's login":      {tokensGiven, onBlacklist, oneSession},
		"refresh: the token of a user who was disabled":              {tokensGiven, onBlacklist, "the user is checked at every refresh"},
		"refresh: the token of a user with a new password":           {tokensGiven, onBlacklist, "a new password ends the sessions of the old one"},
		"refresh: the token of a user who was removed":               {tokensGiven, onBlacklist, "the user is checked at every refresh"},
		"verify: the access token of a blacklisted login":            {done, notValid, oneSession},
	}
	for section, field := range map[string]string{"obtain": "", "refresh": "refresh", "verify": "token", "blacklist": "refresh"} {
		tooDeep := line(`400 {"` + field + `":["Not a valid string."]}`)
		if field == "" {
			tooDeep = `400 {"password":["This field is required."],"username":["Not a valid string."]}`
		}
		all[section+": no slash at the end"] = difference{"301 text/html", notFound, noRedirect}
		all[section+": a slash too many"] = difference{"404 text/html", notFound, "every answer is JSON"}
		all[section+": the path in capitals"] = difference{"404 text/html", notFound, "every answer is JSON"}
		all[section+": 5,000 levels"] = difference{"500 text/html", tooDeep, "the parser accepts the nesting, and the field is refused"}
		all[section+": OPTIONS"] = difference{`200 {"actions":{"POST":…`, `405 {"detail":"Method \"OPTIONS\" not allowed."} | POST`, noPages}
		all[section+": a preflight"] = difference{`200 {"actions":{"POST":…`, "204", noPages}
		all[section+": a preflight of a page of another origin"] = difference{`200 {"actions":{"POST":…`, `403 {"detail":"no client lists this origin"}`, noPages}
		if field != "" {
			all[section+": a token in the query"] = difference{line(`400 {"` + field + `":["This field is required."]}`), inTheURL, "a client that sends a token in a URL must get an error"}
		}
	}
	return all
}
