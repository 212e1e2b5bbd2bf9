package record

// AppendUint appends the lowest n bytes of v, in big-endian byte order.
func AppendUint(b []byte, v uint64, n int) []byte {
	for n--; n >= 0; n-- {
		b = append(b, byte(v>>(8*n)))
	}
	return b
}

// Fields are the bytes of a binary record that are not read yet.
type Fields struct {
	rest  []byte
	short bool // a field was longer than the rest
}

// NewFields returns the fields of a record.
func NewFields(b []byte) *Fields { return &Fields{rest: b} }

// Bytes reads n bytes. If fewer are left it returns n zeros, and Rest returns false.
func (f *Fields) Bytes(n int) []byte {
	if n > len(f.rest) {
		f.short, f.rest = true, nil
		return make([]byte, n)
	}
	b := f.rest[:n:n]
	f.rest = f.rest[n:]
	return b
}

// Uint reads a number of n bytes, at most eight, in big-endian byte order.
func (f *Fields) Uint(n int) (v uint64) {
	for _, b := range f.Bytes(n) {
		v = v<<8 | uint64(b)
	}
	return v
}

// Rest returns what follows the fields. ok is false if the record was too short for them.
func (f *Fields) Rest() (rest []byte, ok bool) { return f.rest, !f.short }
