package postgres

import (
	"hash/fnv"
	"slices"

	"keymill/storage"
	"keymill/storage/optimistic"
)

// The numbers of locks are part of commit_v2: all nodes must take the same lock for a key.
const (
	// Locks of keys are numbered from 1; lock 0 is shared by every commit. There are so many that two keys hardly ever have
	// the same one: a commit that waits for another one waits for its disk, too.
	keyLocks = 1 << 30

	// These are the locks of records that every commit of a server reads. With numbers that they shared with other keys, a
	// commit that writes one of these would wait for all commits.
	movedLock   = keyLocks + 1
	keyringLock = keyLocks + 2
	maxLocks    = 512 // of one commit besides lock 0, so that a few commits at a time fit into the lock table of a small server
)

// locksOf returns the locks of a batch as commit_v2 takes them: alone means lock 0 alone and no other,
// otherwise a positive number is a key that is written and a negative one a key that was only read.
func locksOf(b *optimistic.Batch) (alone bool, locks []int32) {
	if len(b.Spans) > 0 || len(b.Reads)+len(b.Writes) > 2*maxLocks {
		return true, nil
	}
	const shared = 1
	ranks := make([]int64, 0, len(b.Reads)+len(b.Writes)) // twice the lock, and one more if it is shared
	for _, w := range b.Writes {
		ranks = append(ranks, 2*int64(lockOf(w.Key)))
	}
	for _, r := range b.Reads {
		ranks = append(ranks, 2*int64(lockOf(r.Key))+shared)
	}
	slices.Sort(ranks)
	locks = make([]int32, 0, len(ranks))
	last := int32(0)
	for _, rank := range ranks {
		lock := int32(rank / 2)
		if lock == last {
			continue // the first one was alone, if one is
		}
		last = lock
		if rank%2 == shared {
			lock = -lock
		}
		locks = append(locks, lock)
	}
	if len(locks) > maxLocks {
		return true, nil
	}
	return false, locks
}

func lockOf(key string) int32 {
	switch key {
	case storage.MovedKey:
		return movedLock
	case "keyring":
		return keyringLock
	}
	h := fnv.New32a()
	h.Write([]byte(key))
	return int32(h.Sum32()%keyLocks) + 1
}
