package tilecache

import (
	"context"
	"fmt"
	"testing"
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
