package bolt

import (
	"context"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"

	"go.etcd.io/bbolt"

	"keymill/storage"
)

// Both write benchmarks read a record of 160 bytes and put it again.
const benchRecords = 1000

func benchKey(i int64) string { return fmt.Sprintf("family/%06d", i%benchRecords) }

// benchClients runs write from n goroutines at once.
func benchClients(b *testing.B, write func(key string) error) {
	for _, n := range []int{1, 16, 64} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var i, left atomic.Int64
			left.Store(int64(b.N))
			done := make(chan error, n)
			b.ResetTimer()
			for range n {
				go func() {
					var err error
					for left.Add(-1) >= 0 && err == nil {
						err = write(benchKey(i.Add(1)))
					}
					done <- err
				}()
			}
			for range n {
				if err := <-done; err != nil {
					b.Error(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
		})
	}
}

func BenchmarkUpdate(b *testing.B) {
	s := benchStore(b)
	value := make([]byte, 160)
	benchClients(b, func(key string) error {
		return s.Update(context.Background(), func(tx storage.Tx) error {
			if _, err := tx.Get(key); err != nil {
				return err
			}
			return tx.Put(key, value)
		})
	})
}

// BenchmarkBatch measures bbolt's own group commit for comparison.
func BenchmarkBatch(b *testing.B) {
	s := benchStore(b)
	value := make([]byte, 160)
	benchClients(b, func(key string) error {
		return s.db.Batch(func(tx *bbolt.Tx) error {
			bucket := tx.Bucket([]byte(bucketName))
			if bucket.Get([]byte(key)) == nil {
				return storage.ErrNotFound
			}
			return bucket.Put([]byte(key), value)
		})
	})
}

// BenchmarkView reads two records, which is what a token request reads.
func BenchmarkView(b *testing.B) {
	s := benchStore(b)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := s.View(context.Background(), func(r storage.Reader) error {
				if _, err := r.Get("family/000007"); err != nil {
					return err
				}
				_, err := r.Get("family/000700")
				return err
			}); err != nil {
				b.Error(err)
			}
		}
	})
}

func benchStore(b *testing.B) *Store {
	s, err := Open(filepath.Join(b.TempDir(), "keymill.db"), Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	for i := range int64(benchRecords) {
		if err := s.Update(context.Background(), func(tx storage.Tx) error {
			return tx.Put(benchKey(i), make([]byte, 160))
		}); err != nil {
			b.Fatal(err)
		}
	}
	return s
}
