package console

import "keymill/issuer/api"

// settings shows the settings that the server uses. The server leaves out every secret.
func (s *site) settings(r *request) (*page, error) {
	list, err := get[[]api.Setting](r, s, "settings", nil)
	t := table{
		Caption: "Settings", Titled: true, Empty: "The server shows no settings.",
		Columns: []string{"Setting", "Value", "Source"},
	}
	for _, e := range list {
		value := none()
		if e.Value != "" {
			value = cell{Text: whole(e.Value), Kind: "long"}
		}
		t.Rows = append(t.Rows, []cell{id(e.Name), value, {Text: whole(e.Source), Kind: "long"}})
	}
	return &page{Title: "Settings", Template: "list", Body: listBody{Table: t}}, err
}
