package families

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"

	"keymill/integration_test/counts"
	"keymill/integration_test/server"
)

const holders = 50

// TestFiftyParallelRefreshesGiveOneSuccessor (I9): fifty holders present the same token at once, then
// its successor, and so on. All of them get the same successor each time, and the family lives.
func TestFiftyParallelRefreshesGiveOneSuccessor(t *testing.T) {
	srv := server.Start(t, server.Options{Config: server.WebConfig})
	srv.AddWeb(t)
	token, err := srv.Login(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	rounds := counts.Of("parallel-refreshes")
	for round := range rounds {
		successor, err := refreshAtOnce(t, srv, token)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if _, generation, err := server.ReadToken(successor); err != nil || int(generation) != round+1 {
			t.Fatalf("round %d was answered with generation %d (%v)", round, generation, err)
		}
		token = successor
	}
	if _, err := refreshAtOnce(t, srv, token); err != nil {
		t.Errorf("the family has ended: %v", err)
	}
	t.Logf("counted: %d rounds of %d refreshes of one token, 1 successor in each, the family lives", rounds, holders)
}

// refreshAtOnce presents a token in all holders at once and returns the successor that all of them
// got. It returns an error if a holder got another one.
func refreshAtOnce(t *testing.T, srv *server.Server, token string) (string, error) {
	answers := make([]string, holders)
	failed := make([]error, holders)
	begin := make(chan struct{})
	var all sync.WaitGroup
	for n := range holders {
		all.Go(func() {
			<-begin
			a, err := srv.Refresh(t.Context(), server.Web, token)
			if err == nil && a.Status != http.StatusOK {
				err = errors.New(a.String())
			}
			answers[n], failed[n] = a.Field("refresh_token"), err
		})
	}
	close(begin)
	all.Wait()
	for n, answer := range answers {
		if failed[n] != nil {
			return "", fmt.Errorf("holder %d: %w", n, failed[n])
		}
		if answer != answers[0] {
			return "", fmt.Errorf("holder %d has another successor than holder 0", n)
		}
	}
	return answers[0], nil
}
