package freeport

import (
	"net"
	"strconv"
	"testing"
)

// TestAPortIsGivenOnce: neither one that was given nor one that a program has.
func TestAPortIsGivenOnce(t *testing.T) {
	first, err := Range(8)
	if err != nil {
		t.Fatal(err)
	}
	for port := first; port < first+8; port++ {
		if _, err := reserve(port); err == nil {
			t.Errorf("port %d is given twice", port)
		}
	}
	if err := reserveAll(first-1, 2); err == nil {
		t.Error("a range with a port that was given is given")
	}
	free, err := Address()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", free)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, text, _ := net.SplitHostPort(free)
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	if err := isFree(port); err == nil {
		t.Errorf("port %d is free, and a program has it", port)
	}
}
