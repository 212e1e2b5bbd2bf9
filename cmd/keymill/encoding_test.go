package main

import (
	"strings"
	"testing"

	"keymill/cmd/keymill/internal/terminal/terminaltest"
	"keymill/cmd/keymill/internal/tokenrequest"

	"github.com/spf13/cobra"
)

// TestInputIsReadInTheEncodingOfItsEditor: passwords and tokens. A mark would become a part of
// them, which no one sees.
func TestInputIsReadInTheEncodingOfItsEditor(t *testing.T) {
	on := func(text string) *cobra.Command {
		cmd := &cobra.Command{}
		cmd.SetIn(strings.NewReader(text))
		return cmd
	}
	for what, tt := range map[string]struct {
		text, want string
		read       func(*cobra.Command) (string, error)
	}{
		"password":      {"ünter uns gesagt\r\n", "ünter uns gesagt", func(cmd *cobra.Command) (string, error) { return readPassword(cmd, "") }},
		"refresh token": {"kmr_x.y\r\n", "kmr_x.y", func(cmd *cobra.Command) (string, error) { return readRefreshToken(cmd, []string{"-"}, false) }},
		"client secret": {"hush\r\n", "hush", func(cmd *cobra.Command) (string, error) {
			req := tokenInput{Request: tokenrequest.Request{Client: "billing", Issuer: "https://id.example.com"}}
			err := req.complete(cmd, true)
			return req.Secret, err
		}},
	} {
		for name, text := range terminaltest.Encodings(tt.text) {
			if got, err := tt.read(on(text)); got != tt.want || err != nil {
				t.Errorf("%s in %s: %q, %v", what, name, got, err)
			}
		}
		if _, err := tt.read(on(terminaltest.Encodings(tt.text)["UTF-16 LE"][2:])); err == nil || !strings.Contains(err.Error(), "UTF-16 without a byte order mark") {
			t.Errorf("%s without a mark: %v", what, err)
		}
	}
}
