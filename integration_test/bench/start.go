package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"keymill/integration_test/server"
)

// A startCost is what a start and an idle server cost.
type startCost struct {
	firstKeys time.Duration // from exec to the first key set, on an existing store
	startCPU  time.Duration // processor time of that start
	fresh     time.Duration // from exec to ready, --dev in an empty directory
	launch    time.Duration // of a verb that does no work, from exec to exit
	launchCPU time.Duration // processor time of that verb
	key       time.Duration // to make an RSA key, here, on average
	resident  int64         // bytes in RAM after idling
}

// The bounds that --assert checks. Times are compared with other times of the same machine and
// run: a start reads a store and checks its keys, and a fresh start generates keys first. Of a start on an
// existing store the processor time is compared: it takes some milliseconds, and on a busy machine it
// waits for the processor and the disk more often than a launch does.
const (
	maxFirstKeys = 10 // launches
	maxFresh     = 20 // RSA keys, beside a start: it generates a few, and the time of each is random
	maxResident  = 30_000_000
)

const sampleKeys, rsaBits = 10, 2048

// idle is how long a server has no requests before its memory is read.
const idle = 5 * time.Second

// restarts is how often a server starts on an existing store, at least. The least time counts: other work
// of the machine can make any of them longer, and none shorter.
const restarts = 15

// measureStart starts a new server as often as rounds says and returns the median, and one on an existing
// store at least restarts times and returns the least time.
func measureStart(rounds int) (startCost, error) {
	var b startCost
	var fresh, first, keys, launch, startCPU, launchCPU []float64
	for range rounds {
		d, err := startFresh()
		if err != nil {
			return b, fmt.Errorf("fresh start: %w", err)
		}
		fresh = append(fresh, float64(d))
		if d, err = makeKey(); err != nil {
			return b, err
		}
		keys = append(keys, float64(d))
	}
	s, err := server.New(server.Options{})
	if err != nil {
		return b, err
	}
	defer s.Close()
	if err := s.Start(); err != nil { // makes the store
		return b, err
	}
	for range max(rounds, restarts) {
		if err := s.Stop(); err != nil {
			return b, err
		}
		d, err := startAgain(s)
		if err != nil {
			return b, fmt.Errorf("start on an existing store: %w", err)
		}
		first = append(first, float64(d))
		used, err := cpuTime(s.PID())
		if err != nil {
			return b, err
		}
		startCPU = append(startCPU, float64(used))
		begun, before := time.Now(), childrenTime()
		if _, errs, err := s.Verb(context.Background(), "version"); err != nil {
			return b, fmt.Errorf("keymill version: %w: %s", err, errs)
		}
		launch = append(launch, float64(time.Since(begun)))
		launchCPU = append(launchCPU, float64(childrenTime()-before))
	}
	b.fresh, b.key = time.Duration(median(fresh)), time.Duration(median(keys))
	b.firstKeys, b.launch = time.Duration(slices.Min(first)), time.Duration(slices.Min(launch))
	b.startCPU, b.launchCPU = time.Duration(slices.Min(startCPU)), time.Duration(slices.Min(launchCPU))
	time.Sleep(idle)
	b.resident, err = residentBytes(s.PID())
	return b, err
}

// makeKey returns the average time that an RSA key takes.
func makeKey() (time.Duration, error) {
	begun := time.Now()
	for range sampleKeys {
		if _, err := rsa.GenerateKey(rand.Reader, rsaBits); err != nil {
			return 0, err
		}
	}
	return time.Since(begun) / sampleKeys, nil
}

func startFresh() (time.Duration, error) {
	s, err := server.New(server.Options{Dev: true})
	if err != nil {
		return 0, err
	}
	defer s.Close()
	begun := time.Now()
	err = s.Start()
	return time.Since(begun), err
}

// startAgain requests the key set from before the start until a server answers.
func startAgain(s *server.Server) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	begun := time.Now()
	answered := make(chan time.Duration, 1)
	go func() {
		for ctx.Err() == nil {
			if status, _, err := s.Get(ctx, "/.well-known/jwks.json"); err == nil && status == 200 {
				answered <- time.Since(begun)
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	if err := s.Start(); err != nil {
		return 0, err
	}
	select {
	case d := <-answered:
		return d, nil
	case <-ctx.Done():
		return 0, fmt.Errorf("no key set: %w", ctx.Err())
	}
}

func (b startCost) print(w io.Writer) {
	fmt.Fprintf(w, "first key set after a start on an existing store  %s, a launch takes %s\n", milliseconds(b.firstKeys), milliseconds(b.launch))
	fmt.Fprintf(w, "processor time until then                         %s, of a launch %s\n", milliseconds(b.startCPU), milliseconds(b.launchCPU))
	fmt.Fprintf(w, "fresh --dev start until ready                     %s, an RSA key takes %s\n", milliseconds(b.fresh), milliseconds(b.key))
	fmt.Fprintf(w, "resident after %v idle                            %.1f MB\n", idle, float64(b.resident)/1e6)
}

func (b startCost) missed() []string {
	var missed []string
	if b.startCPU > maxFirstKeys*b.launchCPU {
		missed = append(missed, fmt.Sprintf("a start used the processor for %s, more than %d launches of %s", milliseconds(b.startCPU), maxFirstKeys, milliseconds(b.launchCPU)))
	}
	if b.fresh > maxFresh*b.key+maxFirstKeys*b.launch {
		missed = append(missed, fmt.Sprintf("fresh start took %s, more than a start and %d RSA keys of %s", milliseconds(b.fresh), maxFresh, milliseconds(b.key)))
	}
	if b.resident > maxResident {
		missed = append(missed, fmt.Sprintf("%.1f MB resident", float64(b.resident)/1e6))
	}
	return missed
}

func milliseconds(d time.Duration) string {
	return strings.TrimSpace(fmt.Sprintf("%8.1f ms", float64(d)/1e6))
}
