package s3_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/tesserafs/tesserafs/tilecache/source/s3"
	"github.com/tesserafs/tesserafs/tilecache/source/sourcetest/gateway"
)

// BenchmarkRead reads ranges of an object of 64 MiB from a server on this machine, by one reader and
// by eight.
func BenchmarkRead(b *testing.B) {
	const size = 64 << 20
	dir := b.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "x"), make([]byte, size), 0o644); err != nil {
		b.Fatal(err)
	}
	g := gateway.StartS3(b)
	g.Bucket("bucket", dir, true)
	s, err := s3.Open(b.Context(), s3.Config{Bucket: "bucket", Endpoint: g.URL})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	o, err := s.Open(b.Context(), "x")
	if err != nil {
		b.Fatal(err)
	}
	defer o.Close()
	for _, n := range []int{16 << 10, 128 << 10, 1 << 20, 8 << 20} {
		for _, readers := range []int{1, 8} {
			b.Run(fmt.Sprintf("%dKiB/%d", n>>10, readers), func(b *testing.B) {
				b.SetBytes(int64(n))
				b.ReportAllocs()
				work := make(chan int64)
				done := make(chan error)
				for range readers {
					go func() {
						p := make([]byte, n)
						var failed error
						for off := range work {
							if _, err := o.ReadAt(b.Context(), p, off); err != nil {
								failed = err
							}
						}
						done <- failed
					}()
				}
				for b.Loop() {
					work <- rand.Int64N(size - int64(n) + 1)
				}
				close(work)
				for range readers {
					if err := <-done; err != nil {
						b.Error(err)
					}
				}
			})
		}
	}
}
