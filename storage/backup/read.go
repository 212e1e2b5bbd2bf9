package backup

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"

	"keymill/storage"
)

// A Reader reads a copy. It trusts nothing that it reads.
type Reader struct {
	in      *bufio.Reader
	sum     hash.Hash // of what was read so far
	header  Header
	trailer *Trailer // nil before the end
	read    Trailer  // Records and Changes together, as read
	digest  []byte
	mac     []byte
}

// NewReader reads the header. Its errors match ErrNotBackup, ErrTruncated or ErrDamaged, or are a
// *VersionError.
func NewReader(in io.Reader) (*Reader, error) {
	r := &Reader{in: bufio.NewReaderSize(in, 64<<10), sum: sha256.New()}
	begin := make([]byte, len(Magic))
	n, err := io.ReadFull(r.in, begin)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	if n == 0 || string(begin[:n]) != Magic[:n] {
		return nil, ErrNotBackup
	}
	if n < len(Magic) {
		return nil, ErrTruncated
	}
	r.sum.Write(begin)
	raw, err := r.json()
	if err != nil {
		return nil, err
	}
	// The versions come first: another format may have other members.
	var v struct {
		Format  int    `json:"format"`
		Schema  int    `json:"schema"`
		Program string `json:"program"`
	}
	if json.Unmarshal(raw, &v) != nil {
		return nil, fmt.Errorf("%w: its header is no JSON", ErrDamaged)
	}
	if v.Format != version || v.Schema != storage.Schema {
		return nil, &VersionError{v.Format, v.Schema, v.Program}
	}
	return r, decode(raw, &r.header, "header")
}

// Header returns the header, which is genuine only if Genuine says so at the end.
func (r *Reader) Header() Header { return r.header }

// Next returns the next record or change, or io.EOF after the end, if the checksum fits. Other errors
// match ErrTruncated or ErrDamaged, or are those of the input.
func (r *Reader) Next() (storage.Write, error) {
	if r.trailer != nil {
		return storage.Write{}, io.EOF
	}
	op, err := r.bytes(1)
	if err != nil {
		return storage.Write{}, err
	}
	switch op[0] {
	case opPut, opDelete:
		r.read.Records++
		return r.write(op[0] == opDelete)
	case opEnd:
		return storage.Write{}, r.end()
	case opFail:
		reason, err := r.json()
		if err != nil {
			return storage.Write{}, err
		}
		return storage.Write{}, &FailedError{string(reason)}
	}
	return storage.Write{}, fmt.Errorf("%w: after record %d", ErrDamaged, r.read.Records)
}

func (r *Reader) write(deleted bool) (w storage.Write, err error) {
	key, err := r.field(storage.MaxKeyBytes)
	if err != nil {
		return w, err
	}
	w = storage.Write{Key: string(key), Deleted: deleted}
	if storage.CheckKey(w.Key) != nil {
		return w, fmt.Errorf("%w: after record %d", ErrDamaged, r.read.Records)
	}
	if !deleted {
		w.Value, err = r.field(storage.MaxStoredBytes)
	}
	return w, err
}

// end reads the trailer and what follows it, and returns io.EOF if all is well.
func (r *Reader) end() error {
	raw, err := r.json()
	if err != nil {
		return err
	}
	var t Trailer
	if err := decode(raw, &t, "trailer"); err != nil {
		return err
	}
	want := r.sum.Sum(nil)
	if r.digest, err = r.bytes(sumBytes); err != nil {
		return err
	}
	if r.mac, err = r.bytes(sumBytes); err != nil {
		return err
	}
	if !bytes.Equal(want, r.digest) {
		return fmt.Errorf("%w: its checksum does not fit", ErrDamaged)
	}
	if t.Records+t.Changes != r.read.Records {
		return fmt.Errorf("%w: it has %d records and changes, and its end says %d", ErrDamaged, r.read.Records, t.Records+t.Changes)
	}
	if _, err := r.in.ReadByte(); !errors.Is(err, io.EOF) {
		if err == nil {
			err = fmt.Errorf("%w: something follows its end", ErrDamaged)
		}
		return err
	}
	r.trailer = &t
	return io.EOF
}

// Trailer returns the trailer. It is nil before Next has returned io.EOF.
func (r *Reader) Trailer() *Trailer { return r.trailer }

// Genuine reports whether a program with the key wrote the copy. It is false before Next has returned
// io.EOF.
func (r *Reader) Genuine(key []byte) bool {
	return r.trailer != nil && hmac.Equal(r.mac, mac(key, r.digest))
}

func (r *Reader) json() ([]byte, error) { return r.field(maxJSON) }

// field reads a length and that many bytes.
func (r *Reader) field(most uint64) ([]byte, error) {
	in := &summed{r: r}
	n, err := binary.ReadUvarint(in)
	switch {
	case errors.Is(in.err, io.EOF):
		return nil, ErrTruncated
	case in.err != nil:
		return nil, in.err
	case err != nil || n > most:
		return nil, fmt.Errorf("%w: after record %d", ErrDamaged, r.read.Records)
	}
	return r.bytes(int(n))
}

func (r *Reader) bytes(n int) ([]byte, error) {
	b := make([]byte, n)
	if _, err := io.ReadFull(r.in, b); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, ErrTruncated
	} else if err != nil {
		return nil, err
	}
	r.sum.Write(b)
	return b, nil
}

// summed reads single bytes, which count in the checksum.
type summed struct {
	r   *Reader
	err error // of the input
}

// ReadByte implements io.ByteReader.
func (s *summed) ReadByte() (byte, error) {
	b, err := s.r.in.ReadByte()
	if s.err = err; err == nil {
		s.r.sum.Write([]byte{b})
	}
	return b, err
}

// decode reads JSON strictly.
func decode(raw []byte, v any, what string) error {
	if storage.DecodeJSON(what, raw, v) != nil {
		return fmt.Errorf("%w: its %s is not one that Keymill writes", ErrDamaged, what)
	}
	return nil
}
