package tilecache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/tesserafs/tesserafs/tilecache/source"
	"github.com/tesserafs/tesserafs/tilecache/source/localdir"
)

// noise is n bytes that differ from place to place.
func noise(n int, seed uint64) []byte {
	p := make([]byte, n)
	rng := rand.New(rand.NewPCG(seed, 0))
	for i := 0; i+8 <= n; i += 8 {
		v := rng.Uint64()
		for j := range 8 {
			p[i+j] = byte(v >> (8 * j))
		}
	}
	return p
}

// sink takes bytes by a system call, as a reply does, and gives them back.
type sink struct {
	t testing.TB
	f *os.File
}

func newSink(t testing.TB) sink {
	t.Helper()
	fd, err := unix.MemfdCreate("sink", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "sink")
	t.Cleanup(func() { f.Close() })
	return sink{t, f}
}

func (s sink) take(p []byte) error {
	n, err := unix.Pwritev(int(s.f.Fd()), [][]byte{p}, 0)
	if err == nil && n != len(p) {
		err = io.ErrShortWrite
	}
	return err
}

func (s sink) bytes(n int) []byte {
	p := make([]byte, n)
	if _, err := s.f.ReadAt(p, 0); err != nil {
		s.t.Fatal(err)
	}
	return p
}

// rssFile is how many bytes of files are mapped into this process and resident.
func rssFile(t testing.TB) int64 {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	var sum int64
	for _, key := range []string{"RssFile:", "RssShmem:"} { // the latter where TMPDIR is a tmpfs
		_, rest, ok := strings.Cut(string(status), key)
		var kib int64
		if _, err := fmt.Sscan(rest, &kib); !ok || err != nil {
			t.Fatalf("no %s in /proc/self/status", key)
		}
		sum += kib << 10
	}
	return sum
}

// Catches pieces that are not the bytes asked for, at every kind of boundary, and pieces that reach
// on beyond their end.
func TestRefer(t *testing.T) {
	const size = 5<<20 + 321
	data := noise(size, 1)
	src := newDir(t, map[string][]byte{"large": data, "small": data[:5], "empty": {}})
	c := newCache(t, src, Config{})
	out := newSink(t)
	o := mustOpen(t, c, "large")
	defer o.Release()
	for _, r := range []struct{ off, n int }{
		{0, 1}, {0, 4096}, {1, 4096}, {4095, 2}, {stripeBytes - 1, 2}, {stripeBytes, stripeBytes}, {1234567, 3 << 20}, {size - 1, 1}, {0, size}, {17, 0}, {size, 0},
	} {
		p, err := o.Refer(int64(r.off), r.n)
		if err != nil || p == nil || len(p) != r.n || cap(p) != r.n {
			t.Errorf("%d at %d: %d bytes of %d, %v", r.n, r.off, len(p), cap(p), err)
			continue
		}
		if err := out.take(p); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(out.bytes(r.n), data[r.off:r.off+r.n]) {
			t.Errorf("%d at %d: other bytes", r.n, r.off)
		}
	}
	for _, r := range []struct {
		off int64
		n   int
	}{{0, size + 1}, {size, 1}, {size + 1, 0}, {1, size}, {-1, 1}, {0, -1}, {5, -1}, {1<<63 - 1, 1}, {0, 1<<63 - 1}, {1<<63 - 1, 1<<63 - 1}, {-1 << 63, -1 << 63}} {
		if p, err := o.Refer(r.off, r.n); !errors.Is(err, io.ErrUnexpectedEOF) || p != nil || !strings.Contains(err.Error(), "large") {
			t.Errorf("%d at %d: %v, want io.ErrUnexpectedEOF", r.n, r.off, err)
		}
	}
	empty := mustOpen(t, c, "empty")
	defer empty.Release()
	if p, err := empty.Refer(0, 0); p == nil || err != nil {
		t.Errorf("nothing of an empty object: nil is %v, %v", p == nil, err)
	}
	if _, err := empty.Refer(0, 1); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a byte of an empty object: %v", err)
	}
	small := mustOpen(t, c, "small")
	if _, err := small.Refer(1, 4); err != nil {
		t.Error(err)
	}
	if s := c.Stats(); s.MappedBytes != size+5 {
		t.Errorf("%d bytes mapped, want %d", s.MappedBytes, size+5)
	}
	small.Release()
}

// Catches a bound that is not kept: in the cache's own count, or in the kernel's, which includes
// whatever else is mapped by reading. Both with stripes mapped before they are written and where the
// kernel cannot do that.
func TestResidentIsBounded(t *testing.T) {
	const limit, fileBytes, files = 8 << 20, 12<<20 + 5000, 6
	dir := t.TempDir()
	for i := range files {
		f, err := os.Create(filepath.Join(dir, fmt.Sprint(i)))
		if err == nil {
			err = errors.Join(f.Truncate(fileBytes), f.Close()) // holes are mapped like data
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	src, err := localdir.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, populates := range []bool{true, false} {
		t.Run(fmt.Sprintf("populates=%v", populates), func(t *testing.T) {
			c := newCache(t, src, Config{MappedBytes: limit})
			c.stripes.populates = populates && c.stripes.populates
			out := newSink(t)
			base, most := rssFile(t), int64(0)
			read := func(o *Object, off int64, n int) {
				t.Helper()
				p, err := o.Refer(off, n)
				if err == nil {
					err = out.take(p)
				}
				if err != nil {
					t.Fatal(err)
				}
				if m := c.Stats().MappedBytes; m > limit {
					t.Fatalf("%d bytes mapped, by the cache's count", m)
				}
				most = max(most, rssFile(t)-base)
			}
			var held []*Object
			for i := range files { // through all, in replies of 1 MiB
				o := mustOpen(t, c, fmt.Sprint(i))
				held = append(held, o)
				for off := int64(0); off < fileBytes; off += 1 << 20 {
					read(o, off, int(min(1<<20, fileBytes-off)))
				}
			}
			rng := rand.New(rand.NewPCG(1, 2))
			for range 500 { // and here and there
				read(held[rng.IntN(files)], rng.Int64N(fileBytes-10_000), 10_000)
			}
			if most > limit+1<<20 {
				t.Errorf("%d KiB of files resident, for a bound of %d KiB", most>>10, limit>>10)
			}
			if populates && most < limit/2 {
				t.Errorf("only %d KiB of files resident: is this measured?", most>>10)
			}
			for _, o := range held {
				o.Release()
			}
		})
	}
}

// Catches pages that come back into the process behind the cache's count: a piece whose stripe is
// unmapped before it is written.
func TestUnmappedInUse(t *testing.T) {
	const stripesInAll = 8
	src := newDir(t, map[string][]byte{"a": noise(stripesInAll*stripeBytes, 3), "b": noise(4*stripeBytes, 4)})
	c := newCache(t, src, Config{MappedBytes: 2 * stripeBytes})
	out := newSink(t)
	base := rssFile(t)
	a, b := mustOpen(t, c, "a"), mustOpen(t, c, "b")
	all, err := a.Refer(0, stripesInAll*stripeBytes)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Refer(0, 4*stripeBytes); err != nil { // drives out every stripe of a
		t.Fatal(err)
	}
	if err := out.take(all); err != nil {
		t.Fatal(err)
	}
	if rss := rssFile(t) - base; rss < 6*stripeBytes {
		t.Errorf("%d KiB resident after writing all of a: is this measured?", rss>>10)
	}
	a.Release()
	if rss := rssFile(t) - base; rss > 3*stripeBytes {
		t.Errorf("%d KiB resident after the release, for a bound of %d KiB", rss>>10, 2*stripeBytes>>10)
	}
	b.Release()
}

// Catches a stripe in steady use that is driven out by others that are used once.
func TestSecondChance(t *testing.T) {
	src := newDir(t, map[string][]byte{"a": noise(16*stripeBytes, 5)})
	c := newCache(t, src, Config{MappedBytes: 4 * stripeBytes})
	o := mustOpen(t, c, "a")
	defer o.Release()
	touch := func(i int) {
		t.Helper()
		if _, err := o.Refer(int64(i)*stripeBytes, 10); err != nil {
			t.Fatal(err)
		}
	}
	touch(0)
	touch(0)
	m := o.mapping.Load()
	first := m.lead / stripeBytes // the stripe that the file's first bytes lie in
	for i := 1; i < 16; i++ {
		touch(i)
		if !m.resident.has(first) {
			t.Fatalf("the stripe in use is gone after %d others", i)
		}
		touch(0)
	}
}

// Catches a process that dies by a file that others truncate, a reply made of what is no longer
// there, and an error that does not say so.
func TestTruncatedUnderMapping(t *testing.T) {
	const size = 3 * stripeBytes
	for _, test := range []struct {
		name      string
		populates bool
		referred  bool // before the file was truncated
	}{
		{"found when mapped", true, false},
		{"found when written", true, true},
		{"found when written, without populate", false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			src := newDir(t, map[string][]byte{"a": noise(size, 6)})
			c := newCache(t, src, Config{})
			c.stripes.populates = test.populates
			out := newSink(t)
			o := mustOpen(t, c, "a")
			defer o.Release()
			var p []byte
			var err error
			refer := func() { p, err = o.Refer(stripeBytes, stripeBytes) }
			if test.referred {
				refer()
			}
			if err := os.Truncate(filepath.Join(src.String(), "a"), 5000); err != nil {
				t.Fatal(err)
			}
			if !test.referred {
				refer()
			}
			if test.populates && !test.referred {
				if !errors.Is(err, source.ErrChanged) || p != nil || !strings.Contains(err.Error(), "a: ") {
					t.Fatalf("refer: %v, want ErrChanged", err)
				}
				if s := c.Stats(); s.MappedBytes != 0 {
					t.Errorf("%d bytes mapped", s.MappedBytes)
				}
			} else {
				if err != nil {
					t.Fatal(err)
				}
				if err := out.take(p); !errors.Is(err, unix.EFAULT) {
					t.Errorf("write of what is gone: %v, want EFAULT", err)
				}
				if err := o.Check(t.Context()); !errors.Is(err, source.ErrChanged) {
					t.Errorf("check: %v", err)
				}
			}
			if _, err := c.Open(t.Context(), "a"); !errors.Is(err, source.ErrChanged) {
				t.Errorf("open afterwards: %v", err)
			}
		})
	}
}

// wrong is a source whose objects' mappings are not what they should be.
type wrong struct {
	source.Source
	result []byte
	err    error
}

func (w wrong) Open(ctx context.Context, name string) (source.Object, error) {
	o, err := w.Source.Open(ctx, name)
	return wrongObject{o, w}, err
}

type wrongObject struct {
	source.Object
	wrong
}

func (o wrongObject) Map() ([]byte, error) { return o.result, o.err }

// mapBeyond maps n bytes of a file that has only one page.
func mapBeyond(t *testing.T, n int) []byte {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "page"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(int64(os.Getpagesize())); err != nil {
		t.Fatal(err)
	}
	b, err := unix.Mmap(int(f.Fd()), 0, n, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Munmap(b) })
	return b
}

// Catches pages that cannot be read although the object is what it was (a bad disk; here a mapping
// beyond the end of another file), a failed mapping, and one of another length, told as success or as
// a change.
func TestUnreadable(t *testing.T) {
	const size = 100_000
	src := newDir(t, map[string][]byte{"a": noise(size, 7)})
	boom := errors.New("boom")
	for name, w := range map[string]wrong{
		"unreadable": {src, mapBeyond(t, size), nil},
		"short":      {src, mapBeyond(t, size-1), nil},
		"failed":     {src, nil, boom},
	} {
		c := newCache(t, w, Config{})
		o := mustOpen(t, c, "a")
		for range 2 {
			p, err := o.Refer(0, 10)
			named := w.err != nil && errors.Is(err, boom) || err != nil && strings.Contains(err.Error(), " a: ")
			if p != nil || !named || errors.Is(err, source.ErrChanged) {
				t.Errorf("%s: %d bytes, %v", name, len(p), err)
			}
		}
		if m := c.Stats().MappedBytes; m != 0 {
			t.Errorf("%s: %d bytes mapped", name, m)
		}
		o.Release()
	}
}

// Catches a kind of mapping that the kernel cannot map ahead refused for it: the system call that is
// given the bytes finds what it can read. (Memory without any right is of that kind.)
func TestNotMappedAhead(t *testing.T) {
	const size = 100_000
	none, err := unix.Mmap(-1, 0, size, unix.PROT_NONE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(none)
	src := newDir(t, map[string][]byte{"a": noise(size, 9)})
	c := newCache(t, wrong{src, none, nil}, Config{})
	o := mustOpen(t, c, "a")
	defer o.Release()
	p, err := o.Refer(0, size)
	if len(p) != size || err != nil {
		t.Fatalf("%d bytes, %v", len(p), err)
	}
	if err := newSink(t).take(p); !errors.Is(err, unix.EFAULT) {
		t.Errorf("write: %v, want EFAULT", err)
	}
}

// Catches a caller who refers after the release and is served: the memory may be another's by then,
// and unmapping it as a stripe would empty it.
func TestReferAfterRelease(t *testing.T) {
	src := newDir(t, map[string][]byte{"a": noise(stripeBytes, 8)})
	c := newCache(t, src, Config{})
	o := mustOpen(t, c, "a")
	p, err := o.Refer(0, stripeBytes)
	if err != nil {
		t.Fatal(err)
	}
	at := unsafe.Pointer(unsafe.SliceData(p))
	c.Forget()
	o.Release()

	if _, err := unix.MmapPtr(-1, 0, at, stripeBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE|unix.MAP_FIXED_NOREPLACE); err != nil {
		t.Fatal(err)
	}
	defer unix.MunmapPtr(at, stripeBytes)
	others := unsafe.Slice((*byte)(at), stripeBytes)
	others[0] = 7
	if p, err := o.Refer(0, 10); p != nil || !errors.Is(err, fs.ErrClosed) {
		t.Errorf("%d bytes, %v; want fs.ErrClosed", len(p), err)
	}
	if others[0] != 7 {
		t.Error("the memory of another was emptied")
	}
}

// Catches pieces of other bytes, and calls on memory that was given back, while objects are opened,
// evicted, referred to and released, and stripes come and go. (Run with -race.)
func TestConcurrentRefer(t *testing.T) {
	const files, size = 6, 5 * stripeBytes / 2
	objects := make(map[string][]byte)
	for i := range files {
		objects[fmt.Sprint(i)] = noise(size, uint64(i))
	}
	src := newDir(t, objects)
	c := newCache(t, src, Config{OpenObjects: 2, MappedBytes: 3 * stripeBytes})
	deadline := time.Now().Add(2 * time.Second)
	var busy sync.WaitGroup
	for worker := range uint64(6) {
		out := newSink(t)
		busy.Go(func() {
			rng := rand.New(rand.NewPCG(worker, 1))
			for time.Now().Before(deadline) {
				name := fmt.Sprint(rng.IntN(files))
				o, err := c.Open(t.Context(), name)
				if err != nil {
					t.Error(err)
					return
				}
				for range 5 {
					n := rng.IntN(100_000) + 1
					off := rng.IntN(size - n)
					p, err := o.Refer(int64(off), n)
					if err == nil {
						err = out.take(p)
					}
					if err != nil {
						t.Error(err)
					} else if !bytes.Equal(out.bytes(n), objects[name][off:off+n]) {
						t.Errorf("%s: other bytes at %d", name, off)
					}
				}
				if err := o.Check(t.Context()); err != nil {
					t.Error(err)
				}
				o.Release()
			}
		})
	}
	busy.Wait()
	if s := c.Stats(); s.MappedBytes > 3*stripeBytes || s.OpenObjects > 2 {
		t.Errorf("%+v", s)
	}
}
