package api

// A Setting is a setting of the running server. No member holds a secret.
type Setting struct {
	Name   string `json:"name"`   // its key in the file: keys.rotate_every
	Value  string `json:"value"`  // as a variable has it, lists with commas; of webhook.url only the host, of a secret only the path of its file
	Source string `json:"source"` // file and line, variable, flag, or default; of a secret without a file where the secret is
}
