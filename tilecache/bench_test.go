package tilecache

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/tesserafs/tesserafs/tilecache/source"
	"github.com/tesserafs/tesserafs/tilecache/source/memsource"
)

// benchObject is an open object of 64 MiB.
func benchObject(b *testing.B) (*Cache, *Object) {
	b.Helper()
	src := newDir(b, map[string][]byte{"2024/grid_-0.45_52.25/grid_-0.45_52.25.npy": make([]byte, 64<<20)})
	c := newCache(b, src, Config{})
	o := mustOpen(b, c, "2024/grid_-0.45_52.25/grid_-0.45_52.25.npy")
	b.Cleanup(o.Release)
	return c, o
}

func BenchmarkOpenHit(b *testing.B) {
	c, o := benchObject(b)
	ctx := context.Background()
	open := func() {
		held, err := c.Open(ctx, o.Name())
		if err != nil {
			b.Error(err)
			return
		}
		held.Release()
	}
	b.Run("serial", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			open()
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				open()
			}
		})
	})
}

// BenchmarkOpenMiss opens, evicts and closes a file each time.
func BenchmarkOpenMiss(b *testing.B) {
	src := newDir(b, map[string][]byte{"a": {1}, "b": {2}})
	c := newCache(b, src, Config{OpenObjects: 1})
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		mustOpen(b, c, [2]string{"a", "b"}[i&1]).Release()
	}
}

func BenchmarkReadAt(b *testing.B) {
	_, o := benchObject(b)
	for _, n := range []int{512, 1 << 20} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			p := make([]byte, n)
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if err := o.ReadAt(b.Context(), p, int64(i)%64<<20); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// rows are n ranges of 8 KiB at the distance of a tile's rows: an inner chunk.
func rows(n int) []source.Range {
	list := make([]source.Range, n)
	for i := range list {
		list[i] = source.Range{Off: 128 + int64(i)*140_800, P: make([]byte, 8192)}
	}
	return list
}

// BenchmarkRows reads an inner chunk of 64 rows of a local object: together, and one by one.
func BenchmarkRows(b *testing.B) {
	_, o := benchObject(b)
	list := rows(64)
	b.Run("together", func(b *testing.B) {
		b.SetBytes(64 * 8192)
		b.ReportAllocs()
		for b.Loop() {
			if err := o.ReadRanges(b.Context(), list); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("one by one", func(b *testing.B) {
		b.SetBytes(64 * 8192)
		b.ReportAllocs()
		for b.Loop() {
			for _, r := range list {
				if err := o.ReadAt(b.Context(), r.P, r.Off); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}

// BenchmarkPagesHit reads from pages in memory.
func BenchmarkPagesHit(b *testing.B) {
	src := memsource.New(map[string][]byte{"a": make([]byte, 64<<20)})
	c := newCache(b, src, Config{Memory: 128 << 20})
	o := mustOpen(b, c, "a")
	b.Cleanup(o.Release)
	if err := o.ReadAt(b.Context(), make([]byte, 64<<20), 0); err != nil {
		b.Fatal(err)
	}
	for _, n := range []int{128, 8 << 10, 1 << 20} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			p := make([]byte, n)
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if err := o.ReadAt(b.Context(), p, int64(i*n)%(63<<20)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("64 rows of 8192", func(b *testing.B) {
		list := rows(64)
		b.SetBytes(64 * 8192)
		b.ReportAllocs()
		for b.Loop() {
			if err := o.ReadRanges(b.Context(), list); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("parallel 8192", func(b *testing.B) {
		b.SetBytes(8192)
		b.RunParallel(func(pb *testing.PB) {
			p := make([]byte, 8192)
			for i := 0; pb.Next(); i++ {
				if err := o.ReadAt(b.Context(), p, int64(i*8192)%(63<<20)); err != nil {
					b.Error(err)
				}
			}
		})
	})
}

// BenchmarkPagesStream reads 1 GiB in order, a MiB at a time, through a memory of 64 MiB: from a source
// that takes no time, and from disk.
func BenchmarkPagesStream(b *testing.B) {
	const size = 1 << 30
	data := make([]byte, size)
	pace := func() source.Pace {
		return source.Pace{Latency: 200 * time.Microsecond, Bandwidth: 1e9, Connections: 16}
	}
	stream := func(b *testing.B, cfg Config) {
		src := newRemote(map[string][]byte{"a": data})
		p := make([]byte, 1<<20)
		b.SetBytes(size)
		b.ReportAllocs()
		for b.Loop() {
			c := New(src, cfg)
			o := mustOpen(b, c, "a")
			for off := int64(0); off < size; off += 1 << 20 {
				if err := o.ReadAt(b.Context(), p, off); err != nil {
					b.Fatal(err)
				}
			}
			o.Release()
			if err := c.Close(); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Run("source", func(b *testing.B) { stream(b, Config{Memory: 64 << 20, Pace: pace}) })
	b.Run("disk", func(b *testing.B) {
		cfg := Config{Memory: 64 << 20, Pace: pace, Disk: newDisk(b, b.TempDir())}
		c := New(newRemote(map[string][]byte{"a": data}), cfg)
		if _, err := c.Warm(b.Context(), "a", nil); err != nil {
			b.Fatal(err)
		}
		if err := c.Close(); err != nil {
			b.Fatal(err)
		}
		b.ResetTimer()
		stream(b, cfg)
	})
}
