// Package freeport gives tests ports of loopback for programs that need the same port again and again.
//
// A program does not have its port all the time: not while its files are made, and not while it is restarted. In that time
// the system would give a port of its own choice to any other listener. So these ports are below those that the system chooses
// from, and each is reserved until the process of the test ends, by an abstract Unix socket with its number:
// no other test takes it, in any process of this machine.
package freeport

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"syscall"
)

// The ports. Linux chooses ports from 32768 on.
const lowest, count = 20_000, 10_000

// Address returns a loopback address with a port that is free and stays reserved.
func Address() (string, error) {
	port, err := Range(1)
	return address(port), err
}

// Range returns the first of n ports in a row that are free and stay reserved.
func Range(n int) (first int, err error) {
	for range 100 {
		first = lowest + rand.IntN(count-n)
		if err = reserveAll(first, n); err == nil {
			return first, nil
		}
	}
	return 0, fmt.Errorf("found no %d free loopback ports in 100 tries: %w", n, err)
}

func address(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

func reserveAll(first, n int) error {
	var reserved []int
	for port := first; port < first+n; port++ {
		s, err := reserve(port)
		if err != nil {
			for _, s := range reserved {
				syscall.Close(s)
			}
			return err
		}
		reserved = append(reserved, s)
	}
	return nil
}

// reserve returns the socket that reserves a port. No one closes it: a net.Listener would be closed by the collector.
func reserve(port int) (int, error) {
	s, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	err = syscall.Bind(s, &syscall.SockaddrUnix{Name: fmt.Sprintf("@keymill-test-port-%d", port)})
	if err == nil {
		err = isFree(port)
	}
	if err != nil {
		return 0, errors.Join(err, syscall.Close(s))
	}
	return s, nil
}

func isFree(port int) error {
	l, err := net.Listen("tcp", address(port))
	if err != nil {
		return err
	}
	return l.Close()
}
