//go:build libcrypto && linux && (amd64 || arm64)

package libcrypto

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	proofName      = "keymill: proof of libcrypto" // argument 0 of the child. A shell never runs a program by this name
	randomMessages = 2000
	patience       = 5 * time.Second // how long the child may make no progress. A slow or busy machine needs longer for all of it
	longestProof   = 2 * time.Minute
	progressEvery  = 50 // signatures
)

// opening is what Open does. Tests change it.
type opening struct {
	path     string
	messages int
	patience time.Duration
	proven   func()   // called between the proof and the load
	env      []string // of the child
}

// A report is what the child writes last, after a dot for each step of progress.
type report struct {
	Version string
	File    identity
	Known   string // the sum of the signatures of proofKeys, as knownSum returns it
	Random  int    // signatures of random messages that were verified
}

// prove starts the child and reads its report.
func (o opening) prove(ctx context.Context) (report, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, longestProof, errors.New("the proof of the library took too long"))
	defer cancel()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	silence := time.AfterFunc(o.patience, func() { stop(fmt.Errorf("the library hangs: the proof made no progress for %s", o.patience)) })
	defer silence.Stop()
	out := &output{progress: func() { silence.Reset(o.patience) }}
	last := &output{}
	child := exec.CommandContext(ctx, "/proc/self/exe") // also if the file of the program was replaced
	child.Args = []string{proofName, o.path, strconv.Itoa(o.messages)}
	child.Env = append([]string{}, o.env...) // not nil, so that it gets none of ours
	child.Dir, child.Stdout, child.Stderr, child.WaitDelay = "/", out, last, time.Second
	err := child.Run()
	if cause := context.Cause(ctx); cause != nil {
		return report{}, cause
	}
	if err != nil {
		return report{}, fmt.Errorf("the proof of the library failed: %w%s", err, last.firstLine())
	}
	var r report
	dots, text, _ := bytes.Cut(out.text, []byte("\n"))
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil || d.More() || len(bytes.Trim(dots, ".")) > 0 {
		return r, errors.New("the proof of the library ended without a report that can be read")
	}
	if r.Known != knownSignatures || r.Random != o.messages {
		return r, errors.New("the library makes other signatures than crypto/rsa")
	}
	return r, nil
}

// An output keeps the beginning of what the child writes.
type output struct {
	text     []byte
	progress func()
}

// Write keeps at most 64 KiB.
func (o *output) Write(b []byte) (int, error) {
	if o.progress != nil {
		o.progress()
	}
	o.text = append(o.text, b[:min(len(b), 64<<10-len(o.text))]...)
	return len(b), nil
}

// firstLine returns ": " and the first line, if it can be shown.
func (o *output) firstLine() string {
	line, _, _ := strings.Cut(string(o.text), "\n")
	if line == "" {
		return ""
	}
	quoted := strconv.QuoteToASCII(line[:min(len(line), 200)])
	return ": " + quoted[1:len(quoted)-1]
}

// RunProof proves a library and ends the process if Open has started it for that. Else it does nothing. The
// program calls it before anything else.
func RunProof() {
	if len(os.Args) != 3 || os.Args[0] != proofName {
		return
	}
	time.AfterFunc(longestProof, func() { os.Exit(1) }) // the parent may be gone
	// What the library could do by mistake: write files, fill the disk with its memory, run for ever.
	for resource, limit := range map[int]uint64{syscall.RLIMIT_FSIZE: 0, syscall.RLIMIT_CORE: 0, syscall.RLIMIT_CPU: 300} {
		_ = syscall.Setrlimit(resource, &syscall.Rlimit{Cur: limit, Max: limit})
	}
	r, err := proof(os.Args[1], os.Args[2])
	if err == nil {
		_, err = fmt.Printf("\n")
	}
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(r)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// proof is what the child does.
func proof(path, messages string) (report, error) {
	if err := allowed(path, privileged()); err != nil {
		return report{}, err
	}
	before, err := identify(path)
	if err != nil {
		return report{}, err
	}
	l, err := load(path)
	if err != nil {
		return report{}, err
	}
	if l.file != before {
		return report{}, errReplaced
	}
	r := report{Version: l.version, File: l.file}
	if r.Known, err = l.signKnown(); err != nil {
		return r, err
	}
	if r.Random, err = strconv.Atoi(messages); err != nil {
		return r, err
	}
	return r, l.signRandom(r.Random)
}

// allowed lets a program whose file has rights of its own, as setcap(8) gives them, load the library of the system only. Any
// user can start the program with the arguments of the child, and must not get these rights for other code.
func allowed(path string, privileged bool) error {
	if !privileged {
		return nil
	}
	if system, err := find(); err != nil || path != system {
		return fmt.Errorf("%s is not the library of the system; the file of this program has capabilities, so it loads no other", path)
	}
	return nil
}

// privileged reports whether the kernel has given this process rights that its user does not have (AT_SECURE in getauxval(3)).
func privileged() bool {
	const atSecure = 23
	vector, err := unix.Auxv()
	return err != nil || slices.ContainsFunc(vector, func(entry [2]uintptr) bool { return entry[0] == atSecure && entry[1] != 0 })
}

// proofKeys are in this file only and sign nothing else: 2048, 3072 and 4096 bits.
//
//go:embed proofkeys.pem
var proofKeys []byte

// A proofKey is one of them.
type proofKey struct {
	pkcs8   []byte
	private *rsa.PrivateKey
}

func readProofKeys() ([]proofKey, error) {
	var keys []proofKey
	for block, rest := pem.Decode(proofKeys); block != nil; block, rest = pem.Decode(rest) {
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return nil, err
		}
		keys = append(keys, proofKey{block.Bytes, key.(*rsa.PrivateKey)})
	}
	return keys, nil
}

// knownMessages is how many messages each of the proofKeys signs.
const knownMessages = 8

// knownSum returns the sum of the signatures of knownMessages with each of the proofKeys.
func knownSum(sign func(k proofKey, digest []byte) ([]byte, error)) (string, error) {
	keys, err := readProofKeys()
	if err != nil {
		return "", err
	}
	all := sha256.New()
	for _, k := range keys {
		for n := range knownMessages {
			digest := sha256.Sum256([]byte{byte(n)})
			signature, err := sign(k, digest[:])
			if err != nil {
				return "", err
			}
			all.Write(signature)
		}
	}
	return hex.EncodeToString(all.Sum(nil)), nil
}

// signKnown signs with each of the proofKeys. The parent compares the sum with that of crypto/rsa.
func (l *Library) signKnown() (string, error) {
	return knownSum(func(k proofKey, digest []byte) ([]byte, error) {
		key, err := l.Import(k.pkcs8, &k.private.PublicKey)
		if err != nil {
			return nil, err
		}
		defer key.Erase()
		return key.Sign(nil, digest, crypto.SHA256)
	})
}

// signRandom signs random messages with one key, in as many threads as the server does.
func (l *Library) signRandom(messages int) error {
	keys, err := readProofKeys()
	if err != nil {
		return err
	}
	key, err := l.Import(keys[0].pkcs8, &keys[0].private.PublicKey)
	if err != nil {
		return err
	}
	defer key.Erase()
	errs := make([]error, runtime.GOMAXPROCS(0))
	var begun atomic.Int64
	var all sync.WaitGroup
	for t := range errs {
		all.Go(func() {
			digest := make([]byte, sha256.Size)
			for n := begun.Add(1); n <= int64(messages) && errs[t] == nil; n = begun.Add(1) {
				rand.Read(digest)
				_, errs[t] = key.Sign(nil, digest, crypto.SHA256) // which verifies it
				if n%progressEvery == 0 {
					fmt.Print(".")
				}
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// knownSignatures is knownSum of crypto/rsa.
const knownSignatures = "9ecef344381b0564970a281ee79cbe339e0ae1b074916326771f1138fd4c2456"
