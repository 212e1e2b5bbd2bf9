package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestRequestsWithSecretsCannotBePrinted(t *testing.T) {
	const hash = "pbkdf2_sha256$1000$salt$hash"
	var users ImportUsersRequest
	if err := Decode([]byte(`{"users":[{"username":"alice","hash":"`+hash+`"}]}`), &users); err != nil {
		t.Fatal(err)
	}
	key := ImportKeyRequest{Key: hash}
	var log bytes.Buffer
	logger := slog.New(slog.NewJSONHandler(&log, nil))
	logger.Info("x", "user", users.Users[0], "key", key.Key)
	shown := log.String()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		shown += fmt.Sprintf(verb, users) + fmt.Sprintf(verb, key)
	}
	if strings.Contains(shown, hash) || strings.Contains(shown, fmt.Sprintf("%x", hash)) || strings.Contains(shown, fmt.Sprint([]byte(hash))) {
		t.Errorf("a secret is printed: %s", shown)
	}
	if raw, err := json.Marshal(users); err != nil || !strings.Contains(string(raw), hash) {
		t.Errorf("the request is sent as %s, %v", raw, err)
	}
}
