package storage

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// TestARecordIsExactlyWhatWasWritten: everything that encoding/json lets pass is damage.
//
// I23.
func TestARecordIsExactlyWhatWasWritten(t *testing.T) {
	type record struct {
		Name     string            `json:"name"`
		Disabled bool              `json:"disabled,omitempty"`
		At       time.Time         `json:"at"`
		Count    int               `json:"count"`
		Detail   map[string]string `json:"detail,omitempty"`
	}
	const whole = `{"name":"alice","disabled":true,"at":"2026-01-02T03:04:05.5Z","count":7,"detail":{"a":"1","b":"2"}}`
	var v record
	if err := DecodeJSON("user/7", []byte(whole), &v); err != nil || !v.Disabled {
		t.Fatalf("%+v, %v", v, err)
	}
	for what, value := range map[string]string{
		"unknown member":    strings.Replace(whole, "disabled", "disablee", 1),
		"another case":      strings.Replace(whole, "disabled", "Disabled", 1),
		"member twice":      strings.Replace(whole, `"count":7`, `"count":7,"count":7`, 1),
		"member in detail":  strings.Replace(whole, `"a":"1"`, `"a":"1","a":"2"`, 1),
		"another order":     strings.Replace(whole, `"a":"1","b":"2"`, `"b":"2","a":"1"`, 1),
		"no member":         strings.Replace(whole, `"count":7,`, "", 1),
		"trailing byte":     whole + "\n",
		"leading byte":      " " + whole,
		"a space within":    strings.Replace(whole, ":7", ": 7", 1),
		"a second value":    whole + whole,
		"empty":             "",
		"null":              "null",
		"an array":          "[]",
		"cut":               whole[:len(whole)-1],
		"impossible day":    strings.Replace(whole, "01-02", "02-30", 1),
		"number as text":    strings.Replace(whole, ":7", `:"7"`, 1),
		"number with point": strings.Replace(whole, ":7", ":7.0", 1),
		"number too large":  strings.Replace(whole, ":7", ":99999999999999999999", 1),
		"false as absent":   strings.Replace(whole, "true", "false", 1),
		"escape":            strings.Replace(whole, "alice", `\u0061lice`, 1),
		"broken UTF-8":      strings.Replace(whole, "alice", "\xff", 1),
	} {
		var v record
		var damage *DamageError
		err := DecodeJSON("user/7", []byte(value), &v)
		if !errors.As(err, &damage) || damage.Key != "user/7" || !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", what, err)
		} else if strings.Contains(err.Error(), "alice") {
			t.Errorf("%s: the error quotes the record: %v", what, err)
		}
	}
}

// TestANameOfARecordIsNoOtherText: a writer of the store chooses it, and terminals and logs show it.
func TestANameOfARecordIsNoOtherText(t *testing.T) {
	for key, want := range map[string]string{
		"client/web": `record client/web is`, "client/\nkeymill: ok": `record "client/\nkeymill: ok" is`,
		"client/\x9b3J": `record "client/\x9b3J" is`, "client/a b": `record "client/a b" is`, "client/é": `record "client/\u00e9" is`,
	} {
		if got := Damaged(key, "it is empty").Error(); !strings.HasPrefix(got, want) {
			t.Errorf("%q: %s", key, got)
		}
	}
}

// TestAKeyInAMessageIsOneShortText, whatever bytes a writer of the store has put into it.
func TestAKeyInAMessageIsOneShortText(t *testing.T) {
	for key, want := range map[string]string{
		"user/7": "user/7", "ring/": "ring/", "": `""`, "\x00": `"\x00"`, "\xff\xff": `"\xff\xff"`, "\x7f": `"\x7f"`, "a b": `"a b"`,
		`a"`: `"a\""`, "a\n": `"a\n"`, "é": `"\u00e9"`, "\u202e": `"\u202e"`,
		strings.Repeat("k", MaxKeyBytes):     strings.Repeat("k", MaxKeyBytes),
		strings.Repeat("k", MaxKeyBytes+1):   `"` + strings.Repeat("k", 64) + `"… (257 bytes)`,
		strings.Repeat("\x00", 256):          `"` + strings.Repeat(`\x00`, 64) + `"… (256 bytes)`,
		"user/" + strings.Repeat("x", 1<<20): `"user/` + strings.Repeat("x", 59) + `"… (1048581 bytes)`,
	} {
		if got := KeyText(key); got != want {
			t.Errorf("%.40q: %s", key, got)
		}
		if text := Damaged(key, "it is not").Error(); text != "record "+want+" is damaged: it is not" {
			t.Errorf("%.40q: %s", key, text)
		}
	}
}
