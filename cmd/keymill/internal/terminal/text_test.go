package terminal

import (
	"bytes"
	"encoding/binary"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf16"
	"unicode/utf8"
)

const someText = "[{\"name\": \"Zoë 十五 😀\"}]\r\n"

// inUTF16 returns a byte order mark and text.
func inUTF16(order binary.AppendByteOrder, text string) string {
	var raw []byte
	for _, unit := range utf16.Encode([]rune("\ufeff" + text)) {
		raw = order.AppendUint16(raw, unit)
	}
	return string(raw)
}

func TestTextIsReadInTheEncodingsOfEditors(t *testing.T) {
	little, big := binary.LittleEndian, binary.BigEndian
	long := strings.Repeat(someText, 1000)
	for _, tt := range []struct{ name, raw, want, fault string }{
		{"UTF-8", someText, someText, ""},
		{"UTF-8 with a mark", "\ufeff" + someText, someText, ""},
		{"a second mark is text", "\ufeff\ufeff" + someText, "\ufeff" + someText, ""},
		{"UTF-16 LE", inUTF16(little, someText), someText, ""},
		{"UTF-16 BE", inUTF16(big, someText), someText, ""},
		{"long UTF-16 LE", inUTF16(little, long), long, ""},
		{"long UTF-16 BE", inUTF16(big, long), long, ""},
		{"nothing", "", "", ""},
		{"one byte", "x", "x", ""},
		{"two bytes of a mark", "\xef\xbb", "\xef\xbb", ""},
		{"only a mark", "\ufeff", "", ""},
		{"only a mark of UTF-16 LE", "\xff\xfe", "", ""},
		{"only a mark of UTF-16 BE", "\xfe\xff", "", ""},
		{"Latin-1 is for the caller to judge", "Zo\xeb", "Zo\xeb", ""},
		{"a replacement character", inUTF16(little, "\ufffd"), "\ufffd", ""},
		{"UTF-16 LE without a mark", inUTF16(little, someText)[2:], "", "UTF-16 without a byte order mark; save it as UTF-8"},
		{"UTF-16 BE without a mark", inUTF16(big, someText)[2:], "", "UTF-16 without a byte order mark"},
		{"UTF-32 LE", "\xff\xfe\x00\x00[\x00\x00\x00", "", "UTF-32"},
		{"UTF-32 BE", "\x00\x00\xfe\xff\x00\x00\x00[", "", "UTF-32"},
		{"half a code unit", inUTF16(little, "ab") + "c", "ab", "byte 6 is the last"},
		{"a high surrogate and a letter", "\xfe\xff\x00a\xd8\x3d\x00b", "a", "byte 4 begins half a character"},
		{"a high surrogate at the end", "\xfe\xff\x00a\xd8\x3d", "a", "byte 4 begins half a character"},
		{"a low surrogate", "\xff\xfea\x00\x00\xdeb\x00", "a", "byte 4 begins half a character"},
	} {
		got, err := DecodeText([]byte(tt.raw))
		check := func(how string) {
			t.Helper()
			if tt.fault == "" && (err != nil || string(got) != tt.want) || tt.fault != "" && (err == nil || !strings.Contains(err.Error(), tt.fault)) {
				t.Errorf("%s, %s: %.80q, %v; want %.80q, %q", tt.name, how, got, err, tt.want, tt.fault)
			}
		}
		check("whole")
		for how, in := range map[string]io.Reader{
			"stream": strings.NewReader(tt.raw), "bytes": iotest.OneByteReader(strings.NewReader(tt.raw)),
			"data with EOF": iotest.DataErrReader(strings.NewReader(tt.raw)),
		} {
			r := NewTextReader(in)
			got, err = io.ReadAll(iotest.OneByteReader(r))
			check(how)
			if tt.fault != "" && string(got) != tt.want {
				t.Errorf("%s, %s: %q before the fault, want %q", tt.name, how, got, tt.want)
			}
			if n, again := r.Read(make([]byte, 8)); n != 0 || again == nil || err != nil && again != err {
				t.Errorf("%s, %s: after the end %d bytes, %v", tt.name, how, n, again)
			}
		}
	}
}

// TestATextReaderDoesNotWaitForMore once it has something to return, and passes on errors.
func TestATextReaderDoesNotWaitForMore(t *testing.T) {
	for _, raw := range []string{someText, "\ufeff" + someText, inUTF16(binary.LittleEndian, someText), inUTF16(binary.BigEndian, someText)} {
		got, err := io.ReadAll(NewTextReader(io.MultiReader(strings.NewReader(raw), iotest.ErrReader(io.ErrClosedPipe))))
		if err != io.ErrClosedPipe || string(got) != someText {
			t.Errorf("%q: %q, %v", raw, got, err)
		}
	}
	in, out := io.Pipe()
	defer out.Close()
	go out.Write([]byte(inUTF16(binary.LittleEndian, "ab")))
	p := make([]byte, 100)
	if n, err := NewTextReader(in).Read(p); err != nil || n == 0 || !strings.HasPrefix("ab", string(p[:n])) {
		t.Errorf("%q, %v", p[:n], err)
	}
}

// FuzzDecodeText: a text is the same whole and as a stream, and text in UTF-16 comes back as it was.
func FuzzDecodeText(f *testing.F) {
	for _, seed := range []string{someText, "\ufeffx", inUTF16(binary.LittleEndian, someText), inUTF16(binary.BigEndian, "x") + "y", "\xff\xfe\x00\x00"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		whole, err := DecodeText(raw)
		stream, errStream := io.ReadAll(NewTextReader(bytes.NewReader(raw)))
		if (err == nil) != (errStream == nil) || err == nil && !bytes.Equal(whole, stream) {
			t.Fatalf("%q: %q, %v and %q, %v", raw, whole, err, stream, errStream)
		}
		if order, _, _ := encodingOf(raw); order != nil && err == nil && !utf8.Valid(whole) {
			t.Fatalf("%q: %q is not UTF-8", raw, whole)
		}
		if !utf8.Valid(raw) || bytes.HasPrefix(raw, []byte{0}) {
			return // a mark followed by NUL is of UTF-32
		}
		for _, order := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
			if got, err := DecodeText([]byte(inUTF16(order, string(raw)))); err != nil || !bytes.Equal(got, raw) {
				t.Fatalf("%q is %q after UTF-16, %v", raw, got, err)
			}
		}
	})
}
