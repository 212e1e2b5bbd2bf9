package optimistic

// Forget drops a record from the cache.
func (s *Store) Forget(key string) { s.cache.drop([]Record{{Key: key}}) }

// CacheBytes returns how many bytes the cache takes up, by its own count.
func (s *Store) CacheBytes() (bytes int64) {
	for i := range s.cache.shards {
		bytes += s.cache.shards[i].bytes
	}
	return bytes
}

const (
	MaxGroupCalls = maxGroupCalls
	MaxRuns       = maxRuns
)
