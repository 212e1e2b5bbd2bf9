package simplejwt

// A line is an answer in one line, as answer.line says it.
type line string

// A difference is a row that the two sides answer differently on purpose.
type difference struct {
	theirs, ours line
	why          string
}

// The answers that many rows share.
const (
	tokensGiven line = `200 {"access":"token","refresh":"token"}`
	done        line = `200 {}`
	noAccount   line = `401 {"detail":"No active account found with the given credentials"} | Bearer realm="api"`
	notValid    line = `401 {"code":"token_not_valid","detail":"Token is invalid or expired"} | Bearer realm="api"`
	onBlacklist line = `401 {"code":"token_not_valid","detail":"Token is blacklisted"} | Bearer realm="api"`
	badJSON     line = `400 {"detail":"JSON parse error - …"}`
	tooLarge    line = `413 {"detail":"the body is larger than 16384 bytes"}`
	notHere     line = `404 {"error":"not_found","error_description":"this path does not exist"}`
	inTheURL    line = `400 {"detail":"parameters must be in the request body, not in the URL"}`
	unshareable line = `406 {"detail":"Could not satisfy the request Accept header."}`
)

// The reasons that many rows share.
const (
	oneFamily   = "a login is one family: what ends it ends all of it, the access tokens too"
	noRedirect  = "a redirect would repeat a password where nobody sent it, or lose it"
	oneForm     = "an answer has one form, and Accept is a wish (RFC 9110, section 12.5.1)"
	oneSpelling = "names are compared after NFKC, or one name would be two people"
	onlyUTF8    = "JSON between strangers is UTF-8 (RFC 8259, section 8.1)"
	onlyOnce    = "two programs that read different members of one object can be played against each other"
	bounded     = "what a stranger may send is bounded"
	noPages     = "the framework describes its view; here a browser asks what a page may do, and nobody else asks anything"
)

// differences maps a row to what each side says.
func differences() map[string]difference {
	all := map[string]difference{
		"obtain: the name in another normal form":               {noAccount, tokensGiven, oneSpelling},
		"obtain: the name in wide letters":                      {noAccount, tokensGiven, oneSpelling},
		"obtain: a member twice, the last one good":             {tokensGiven, badJSON, onlyOnce},
		"obtain: a member twice, the last one bad":              {noAccount, badJSON, onlyOnce},
		"obtain: a body of a megabyte":                          {noAccount, tooLarge, bounded},
		"obtain: UTF-16":                                        {tokensGiven, badJSON, onlyUTF8},
		"obtain: UTF-8 that claims to be UTF-16":                {badJSON, tokensGiven, onlyUTF8},
		"obtain: Accept: what a browser sends":                  {"200 text/html", tokensGiven, oneForm},
		"obtain: Accept: HTML":                                  {`401 text/html | Bearer realm="api"`, noAccount, oneForm},
		"obtain: Accept: XML":                                   {unshareable, tokensGiven, oneForm},
		"obtain: Accept: nonsense":                              {unshareable, tokensGiven, oneForm},
		"obtain: another format in the query":                   {`404 {"detail":"Not found."}`, tokensGiven, oneForm},
		"obtain: the credentials in the query":                  {`400 {"password":["This field is required."],"username":["This field is required."]}`, inTheURL, "whoever sends a password in a URL should learn it"},
		"obtain: a path below":                                  {"404 text/html", notHere, "every answer is JSON"},
		"obtain: the eleventh wrong password in a row":          {noAccount, `429 {"detail":"Request was throttled. Expected available in … seconds."}`, "guessing is slowed down"},
		"obtain: an origin that nobody lists":                   {tokensGiven, `403 {"detail":"pages of this origin may not use this path"}`, "a foreign page could use up its visitor's failures"},
		"obtain: no media type":                                 {`415 {"detail":"Unsupported media type \"text/plain\" in request."}`, `415 {"detail":"Unsupported media type \"\" in request."}`, "Python's own server makes up a media type; others do not"},
		"obtain: a form in parts that is cut off":               {`400 {"password":["This field is required."]}`, `400 {"detail":"Multipart form parse error - it is broken, too long or names a field twice"}`, "half a form is none"},
		"refresh: the successor of a token that came twice":     {tokensGiven, onBlacklist, "one of the two who had it is a thief"},
		"refresh: the successor of a blacklisted token's login": {tokensGiven, onBlacklist, oneFamily},
		"refresh: the token of a person switched off meanwhile": {tokensGiven, onBlacklist, "a person is looked at whenever a token is refreshed"},
		"refresh: the token of a person with a new password":    {tokensGiven, onBlacklist, "a new password ends what the old one began"},
		"refresh: the token of a person who is gone":            {tokensGiven, onBlacklist, "a person is looked at whenever a token is refreshed"},
		"verify: the access token of a blacklisted login":       {done, notValid, oneFamily},
	}
	for section, field := range map[string]string{"obtain": "", "refresh": "refresh", "verify": "token", "blacklist": "refresh"} {
		tooDeep := line(`400 {"` + field + `":["Not a valid string."]}`)
		if field == "" {
			tooDeep = `400 {"password":["This field is required."],"username":["Not a valid string."]}`
		}
		all[section+": no slash at the end"] = difference{"301 text/html", notHere, noRedirect}
		all[section+": a slash too many"] = difference{"404 text/html", notHere, "every answer is JSON"}
		all[section+": the path in capitals"] = difference{"404 text/html", notHere, "every answer is JSON"}
		all[section+": 5,000 levels"] = difference{"500 text/html", tooDeep, "the parser survives what the field then refuses"}
		all[section+": OPTIONS"] = difference{`200 {"actions":{"POST":…`, `405 {"detail":"Method \"OPTIONS\" not allowed."} | POST`, noPages}
		all[section+": what a browser asks first"] = difference{`200 {"actions":{"POST":…`, "204", noPages}
		all[section+": what a browser asks first on a stranger's page"] = difference{`200 {"actions":{"POST":…`, `403 {"detail":"no client lists this origin"}`, noPages}
		if field != "" {
			all[section+": a token in the query"] = difference{line(`400 {"` + field + `":["This field is required."]}`), inTheURL, "whoever sends a token in a URL should learn it"}
		}
	}
	return all
}
