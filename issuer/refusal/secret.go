package refusal

import (
	"fmt"
	"io"
	"log/slog"
)

// A Secret is a string that no verb of fmt and no logger shows. Its JSON form does, because the answer
// to an administrator shows it once.
type Secret string

// Format implements fmt.Formatter for every verb, %x and %d included.
func (s Secret) Format(f fmt.State, _ rune) { io.WriteString(f, "[secret]") }

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue("[secret]") }
