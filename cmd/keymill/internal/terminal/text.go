package terminal

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// DecodeText returns raw as UTF-8 without a byte order mark. Editors and shells of Windows write such
// marks, and UTF-16: both are accepted if a mark says which. An error names the encoding, or the
// place of a fault, and nothing of the text. The result may share memory with raw.
func DecodeText(raw []byte) ([]byte, error) {
	order, mark, err := encodingOf(raw)
	if err != nil || order == nil {
		return raw[mark:], err
	}
	return io.ReadAll(NewTextReader(bytes.NewReader(raw)))
}

// encodingOf returns the byte order of UTF-16, nil for UTF-8, and the length of the byte order mark,
// given the first four bytes of a text.
func encodingOf(head []byte) (order binary.ByteOrder, mark int, err error) {
	begins := func(s string) bool { return bytes.HasPrefix(head, []byte(s)) }
	switch {
	case begins("\xef\xbb\xbf"):
		return nil, 3, nil
	case begins("\xff\xfe\x00\x00"), begins("\x00\x00\xfe\xff"):
		return nil, 0, errors.New("the text is in UTF-32; save it as UTF-8")
	case begins("\xff\xfe"):
		return binary.LittleEndian, 2, nil
	case begins("\xfe\xff"):
		return binary.BigEndian, 2, nil
	case len(head) >= 2 && (head[0] == 0) != (head[1] == 0): // a letter of ASCII
		return nil, 0, errors.New("the text is in UTF-16 without a byte order mark; save it as UTF-8")
	}
	return nil, 0, nil
}

// NewTextReader returns a reader of the text of in, decoded as DecodeText does.
func NewTextReader(in io.Reader) io.Reader { return &textReader{in: bufio.NewReader(in)} }

// A textReader finds out the encoding at the first Read.
type textReader struct {
	in    *bufio.Reader
	begun bool
	order binary.ByteOrder // nil: UTF-8
	place int              // of the next byte in the text
	rest  []byte           // of a character that did not fit
	err   error            // of every later Read
}

func (t *textReader) Read(p []byte) (int, error) {
	if !t.begun {
		t.begin()
	}
	if t.err == nil && t.order == nil {
		return t.in.Read(p)
	}
	n := 0
	for n < len(p) {
		if len(t.rest) == 0 {
			// Having something to return, do not wait for more of a stream.
			if t.err != nil || n > 0 && t.in.Buffered() < 2*utf16Bytes {
				break
			}
			var r rune
			if r, t.err = t.character(); t.err != nil {
				break
			}
			t.rest = utf8.AppendRune(t.rest, r)
		}
		copied := copy(p[n:], t.rest)
		n, t.rest = n+copied, t.rest[copied:]
	}
	if n > 0 || len(p) == 0 {
		return n, nil
	}
	return 0, t.err
}

func (t *textReader) begin() {
	t.begun = true
	head, _ := t.in.Peek(4) // an error comes again from the next read
	t.order, t.place, t.err = encodingOf(head)
	t.in.Discard(t.place)
}

const utf16Bytes = 2 // of a code unit

// character reads one character of UTF-16. It returns io.EOF only between characters. Half a character
// is an error and is not replaced, because two different names could become one.
func (t *textReader) character() (rune, error) {
	place := t.place
	r, err := t.unit()
	if err != nil || !utf16.IsSurrogate(r) {
		return r, err
	}
	second, err := t.unit()
	if err != nil && err != io.EOF {
		return 0, err
	}
	if r = utf16.DecodeRune(r, second); r == utf8.RuneError {
		return 0, fmt.Errorf("the text is not UTF-16: byte %d begins half a character", place)
	}
	return r, nil
}

func (t *textReader) unit() (rune, error) {
	var b [utf16Bytes]byte
	n, err := io.ReadFull(t.in, b[:])
	if err == io.ErrUnexpectedEOF {
		err = fmt.Errorf("the text is not UTF-16: byte %d is the last, and half a character", t.place)
	}
	t.place += n
	return rune(t.order.Uint16(b[:])), err
}

// WithoutUser replaces user and password of a URL, which may be no valid one, for a message. A password may contain any
// character, so all before the last "@" counts.
func WithoutUser(url string) string {
	at := strings.LastIndexByte(url, '@')
	if at < 0 {
		return url
	}
	scheme, _, found := strings.Cut(url[:at], "://")
	if !found {
		return "…" + url[at:]
	}
	return scheme + "://…" + url[at:]
}
