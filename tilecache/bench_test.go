package tilecache

import (
	"context"
	"fmt"
	"testing"
)

// benchObject is an open object of 64 MiB, of which 32 MiB may be resident.
func benchObject(b *testing.B) (*Cache, *Object) {
	b.Helper()
	src := newDir(b, map[string][]byte{"2024/grid_-0.45_52.25/grid_-0.45_52.25.npy": noise(64<<20, 1)})
	c := newCache(b, src, Config{MappedBytes: 32 << 20})
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

// BenchmarkReferHit refers to a row of a tile (90 KB) in resident stripes.
func BenchmarkReferHit(b *testing.B) {
	_, o := benchObject(b)
	refer := func(i int) {
		if _, err := o.Refer(int64(i%200*90_000), 90_000); err != nil {
			b.Error(err)
		}
	}
	b.Run("serial", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			refer(i)
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for i := 0; pb.Next(); i++ {
				refer(i)
			}
		})
	})
}

// BenchmarkReferMiss maps a stripe and unmaps another each time.
func BenchmarkReferMiss(b *testing.B) {
	_, o := benchObject(b)
	b.SetBytes(stripeBytes)
	for i := 0; b.Loop(); i++ {
		if _, err := o.Refer(int64(i%32)*stripeBytes, stripeBytes); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkThrough sends 1 MiB a time of all the object, more than may be resident, by reference and
// by copy.
func BenchmarkThrough(b *testing.B) {
	const n = 1 << 20
	_, o := benchObject(b)
	out := newSink(b)
	for _, refer := range []bool{true, false} {
		b.Run(fmt.Sprintf("refer=%v", refer), func(b *testing.B) {
			b.SetBytes(n)
			buf := make([]byte, n)
			for i := 0; b.Loop(); i++ {
				off := int64(i) % 64 * n
				p, err := buf, error(nil)
				if refer {
					p, err = o.Refer(off, n)
				} else {
					err = o.ReadAt(b.Context(), p, off)
				}
				if err == nil {
					err = out.take(p)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
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
