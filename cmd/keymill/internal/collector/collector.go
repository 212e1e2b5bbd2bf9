// Package collector sets how often the garbage collector runs, by the size of the heap.
//
// The collector runs when the heap has grown by GOGC percent of what it found alive the last time: objects, stacks and
// global variables. Each run takes as long as it takes to look at what is alive. A server has little alive, about 5 MB,
// so with a fixed percentage it collects a few megabytes of garbage dozens of times a second, and uses 5 to 7 % of the
// time of a small request for that. A higher percentage that is fixed would help, and would let a large heap grow
// without measure: one of 200 MB, which ten thousand connections need, to 3 GB with GOGC=1600.
//
// So the percentage follows what is alive, and is set again after each collection. The garbage may be as large as what
// is alive, which is Go's own default, and 24 MiB more:
//
//	alive      GOGC   heap at most   with GOGC=200
//	3 MB        800          32 MB           12 MB
//	5 MB        603          35 MB           15 MB
//	25 MB       200          75 MB           75 MB
//	200 MB      112         425 MB          600 MB
//
// The constant is the price in memory, whatever the server does. It is several times what is alive in a small
// server, so that the collector runs a few times a second, and it is small beside what the process needs anyway. Twice as
// much would save little more: a percent of the time of a request.
//
// A heap that jumps has its own bound. The percentage is set a moment after a collection, in a busy program sometimes a second
// after it, because Go says that a collection has ended only where it reuses memory. Until then the percentage of the small heap
// would let a heap in which the memory of a password hash is alive, 19 MiB or more, grow to hundreds of megabytes. So
// Go's limit of memory is set too, 32 MiB beyond what the percentage allows. Beyond it the collector runs whatever the
// percentage is, and the next collection sets both for what is alive then. The limit never stays below what is in use.
//
// A heap that shrinks is noticed by the next collection. Go collects every two minutes in any case.
//
// An operator who has set GOGC or GOMEMLIMIT decides alone.
package collector

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

const (
	extra = 24 << 20 // bytes of garbage beyond as much as is alive
	jump  = 32 << 20 // bytes that the heap may have beyond that until the percentage is set

	// least and most bound the percentage. Go's smallest heap is 4 MiB for each 100 of it, so 32 MiB.
	least = 100
	most  = 800
)

// percentFor returns the GOGC for a heap with so many bytes alive.
func percentFor(alive uint64) int { return int(min(most, least+100*extra/max(1, alive))) }

// limitFor returns the limit of memory, of which other bytes are not in the heap.
func limitFor(alive, other uint64) int64 { return int64(other + 2*alive + extra + jump) }

// Follow sets the collector after each collection until stop is called. If GOGC or GOMEMLIMIT is in the environment, it
// changes nothing.
func Follow() (stop func()) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return func() {}
	}
	return start().stop
}

// A follower sets the collector.
type follower struct {
	percent int // before Follow, as limit
	limit   int64

	mu      sync.Mutex
	reader  reader // owned by mu, as is stopped
	stopped bool
}

func start() *follower {
	f := &follower{reader: newReader()}
	f.percent, f.limit = debug.SetGCPercent(most), debug.SetMemoryLimit(-1)
	f.set()
	return f
}

// set sets the collector for what the last collection has found alive, and runs again after the next one.
func (f *follower) set() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stopped {
		return
	}
	alive, other := f.reader.read()
	debug.SetMemoryLimit(limitFor(alive, other))
	debug.SetGCPercent(percentFor(alive))
	runtime.AddCleanup(new(sentinel), (*follower).set, f)
}

// A sentinel is garbage as soon as it is made, so the next collection finds it. It has a pointer, because the runtime
// packs small objects without one together and keeps all of them as long as one is in use.
type sentinel struct{ _ *sentinel }

func (f *follower) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stopped = true
	debug.SetGCPercent(f.percent)
	debug.SetMemoryLimit(f.limit)
}

// A reader reads numbers of the runtime.
type reader []metrics.Sample

// Where a reader has its numbers: those that add up to what is alive, all memory, and those of it that are the heap or
// are not used.
const (
	endOfAlive = 3
	total      = endOfAlive
)

func newReader() reader {
	var r reader
	for _, name := range []string{
		"/gc/heap/live", "/gc/scan/stack", "/gc/scan/globals", "/memory/classes/total",
		"/memory/classes/heap/objects", "/memory/classes/heap/unused", "/memory/classes/heap/free", "/memory/classes/heap/released",
	} {
		r = append(r, metrics.Sample{Name: name + ":bytes"})
	}
	return r
}

// read returns what the last collection has found alive, and how much memory is now in use and not in the heap.
func (r reader) read() (alive, other uint64) {
	metrics.Read(r)
	for _, s := range r[:endOfAlive] {
		alive += s.Value.Uint64()
	}
	other = r[total].Value.Uint64()
	for _, s := range r[total+1:] {
		other -= s.Value.Uint64()
	}
	return alive, other
}
