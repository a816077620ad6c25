package disk

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"
)

// BenchmarkRead reads kept pages, and by turns another part of the same file without a look at it: the
// time of the one is given as a part of the time of the other.
func BenchmarkRead(b *testing.B) {
	const size = 256 << 20
	c := newCache(b, b.TempDir(), 0)
	o := newObject(b, c, "a", size)
	o.Write(0, content("a", size))
	f, err := os.Open(o.path())
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	for _, n := range []int64{16 << 10, 128 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("%dKiB", n>>10), func(b *testing.B) {
			p := make([]byte, n)
			b.SetBytes(2 * n)
			b.ReportAllocs()
			var pages, file []time.Duration
			for i := int64(0); b.Loop(); i++ {
				begun := time.Now()
				if o.Read(b.Context(), i*n%size/PageSize, p) != len(p) {
					b.Fatal("a page is not kept")
				}
				between := time.Now()
				if _, err := f.ReadAt(p, pagesOffset(size)+(i*n+size/2)%size); err != nil {
					b.Fatal(err)
				}
				pages = append(pages, between.Sub(begun))
				file = append(file, time.Since(between))
			}
			slices.Sort(pages)
			slices.Sort(file)
			middle := len(pages) / 2
			b.ReportMetric(float64(file[middle])/float64(pages[middle]), "of-file")
			b.ReportMetric(float64(n)*1e3/float64(pages[middle]), "MB/s-pages")
		})
	}
}

// BenchmarkWrite keeps a new object each 64 MiB, and evicts old ones.
func BenchmarkWrite(b *testing.B) {
	const size = 64 << 20
	c := newCache(b, b.TempDir(), 256<<20)
	p := content("a", 1<<20)
	var o *Object
	b.SetBytes(int64(len(p)))
	for i := 0; b.Loop(); i++ {
		if i%64 == 0 {
			o = newObject(b, c, fmt.Sprint(i), size)
		}
		o.Write(int64(i%64)*64, p)
	}
}

// BenchmarkObject opens an object of which pages are kept.
func BenchmarkObject(b *testing.B) {
	c := newCache(b, b.TempDir(), 0)
	newObject(b, c, "a", PageSize).Write(0, content("a", PageSize))
	b.Run("open", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			o, err := c.Object(here, "a", infoOf(PageSize))
			if err != nil || !o.Has(0) {
				b.Fatal(err)
			}
			o.Close()
		}
	})
	b.Run("known", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, ok := c.Known(here, "a"); !ok {
				b.Fatal("not known")
			}
		}
	})
}

// BenchmarkCount looks at a directory of 2,000 states.
func BenchmarkCount(b *testing.B) {
	c := newCache(b, b.TempDir(), 0)
	page := content("a", PageSize)
	for i := range 2000 {
		o := newObject(b, c, fmt.Sprint(i), PageSize)
		o.Write(0, page)
		o.Close()
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, states := c.count(); len(states) != 2000 {
			b.Fatalf("%d states", len(states))
		}
	}
}
