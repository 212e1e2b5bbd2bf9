package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"keymill/integration_test/server"
)

// A birth is what starting and resting cost.
type birth struct {
	firstKeys time.Duration // from exec to the first key set, on an existing store
	fresh     time.Duration // from exec to ready, --dev in an empty directory
	resident  int64         // bytes in RAM after idling
}

// What --assert demands of a birth.
const (
	maxFirstKeys = 300 * time.Millisecond
	maxFresh     = 2 * time.Second
	maxResident  = 30_000_000
)

// idle is how long a server rests before its memory is read.
const idle = 5 * time.Second

// measureBirth starts servers, rounds times each, and keeps the medians.
func measureBirth(rounds int) (birth, error) {
	var b birth
	var fresh, first []float64
	for range rounds {
		d, err := startFresh()
		if err != nil {
			return b, fmt.Errorf("fresh start: %w", err)
		}
		fresh = append(fresh, float64(d))
	}
	s, err := server.New(server.Options{})
	if err != nil {
		return b, err
	}
	defer s.Close()
	if err := s.Start(); err != nil { // makes the store
		return b, err
	}
	for range rounds {
		if err := s.Stop(); err != nil {
			return b, err
		}
		d, err := startAgain(s)
		if err != nil {
			return b, fmt.Errorf("start on an existing store: %w", err)
		}
		first = append(first, float64(d))
	}
	b.fresh, b.firstKeys = time.Duration(median(fresh)), time.Duration(median(first))
	time.Sleep(idle)
	b.resident, err = residentBytes(s.PID())
	return b, err
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

// startAgain asks for the key set from the first moment on, until it comes.
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

func (b birth) print(w io.Writer) {
	fmt.Fprintf(w, "first key set after a start on an existing store  %s\n", milliseconds(b.firstKeys))
	fmt.Fprintf(w, "fresh --dev start until ready                     %s\n", milliseconds(b.fresh))
	fmt.Fprintf(w, "resident after %v idle                            %.1f MB\n", idle, float64(b.resident)/1e6)
}

func (b birth) demands() []string {
	var missed []string
	if b.firstKeys > maxFirstKeys {
		missed = append(missed, "first key set after "+milliseconds(b.firstKeys))
	}
	if b.fresh > maxFresh {
		missed = append(missed, "fresh start took "+milliseconds(b.fresh))
	}
	if b.resident > maxResident {
		missed = append(missed, fmt.Sprintf("%.1f MB resident", float64(b.resident)/1e6))
	}
	return missed
}

func milliseconds(d time.Duration) string {
	return strings.TrimSpace(fmt.Sprintf("%8.1f ms", float64(d)/1e6))
}
