package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tesserafs/tesserafs/tilecache/source"
)

const here = "s3://tessera/v1" // a source

// made is the time of every state of these tests.
var made = time.Unix(1_700_000_000, 123_000_000)

// content is the right bytes of an object: no two pages of any two objects are alike.
func content(name string, size int64) []byte {
	seed := fnv.New64a()
	seed.Write([]byte(name))
	var key [32]byte
	copy(key[:], seed.Sum(nil))
	p := make([]byte, size)
	rand.NewChaCha8(key).Read(p)
	return p
}

func newCache(t testing.TB, dir string, limit int64) *Cache {
	t.Helper()
	c, err := Open(dir, Config{Limit: limit})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func infoOf(size int64) source.Info {
	return source.Info{Size: size, ModTime: made, ETag: `"5d41402a"`}
}

func newObject(t testing.TB, c *Cache, name string, size int64) *Object {
	t.Helper()
	o, err := c.Object(here, name, infoOf(size))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.Close)
	return o
}

// readAll reads an object page by page. Every page must be right or not there; it returns how many
// are there.
func readAll(t testing.TB, o *Object, want []byte) (kept int) {
	t.Helper()
	for page := int64(0); page < pagesIn(o.size); page++ {
		right := want[page*PageSize : min((page+1)*PageSize, int64(len(want)))]
		p := make([]byte, len(right))
		switch n := o.Read(t.Context(), page, p); {
		case n == 0:
		case n != len(p) || !bytes.Equal(p, right):
			t.Fatalf("page %d of %d: %d wrong bytes", page, pagesIn(o.size), n)
		default:
			kept++
		}
	}
	return kept
}

// used is what a directory takes on disk.
func used(t testing.TB, dir string) (bytes int64) {
	t.Helper()
	if err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // evicted just now
		}
		if err != nil {
			return err
		}
		if info, err := d.Info(); err == nil {
			bytes += info.Sys().(*syscall.Stat_t).Blocks * 512
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return bytes
}

// Catches pages that come back elsewhere, incomplete or not at all, short last pages, and counters that
// tell another story.
func TestKeep(t *testing.T) {
	dir := t.TempDir()
	c := newCache(t, dir, 64<<20)
	want := content("a", 150*PageSize+100)
	o := newObject(t, c, "a", int64(len(want)))
	p := make([]byte, len(want))
	if n := o.Read(t.Context(), 0, p); n != 0 || o.Has(0) {
		t.Errorf("an empty cache has %d bytes", n)
	}
	o.Write(3, want[3*PageSize:5*PageSize])
	o.Write(149, want[149*PageSize:])
	for _, test := range []struct {
		page, pages int64
		want        int // bytes
	}{
		{0, 5, 0},
		{2, 3, 0},
		{3, 1, PageSize},
		{3, 2, 2 * PageSize},
		{3, 9, 2 * PageSize},
		{4, 1, PageSize},
		{5, 1, 0},
		{149, 1, PageSize},
		{149, 2, PageSize + 100},
		{150, 1, 100},
	} {
		q := make([]byte, min(test.pages*PageSize, int64(len(want))-test.page*PageSize))
		if n := o.Read(t.Context(), test.page, q); n != test.want || !bytes.Equal(q[:n], want[test.page*PageSize:][:n]) {
			t.Errorf("%d pages from %d: %d bytes, want %d", test.pages, test.page, n, test.want)
		}
		if has := o.Has(test.page); has != (test.want > 0) {
			t.Errorf("has page %d: %v", test.page, has)
		}
	}
	if s := c.Stats(); s.Hits != 10 || s.Misses != 5 || s.BytesRead != 8*PageSize+200 || s.BytesWritten != 3*PageSize+100 ||
		s.WriteFailures != 0 || s.DamagedPages != 0 || s.Limit != 64<<20 || s.BytesKept < used(t, dir) {
		t.Errorf("%+v", s)
	}

	// Many batches, with a gap; then again after everything was closed.
	o.Write(0, want[:100*PageSize])
	o.Write(101, want[101*PageSize:])
	o.Close()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	c = newCache(t, dir, 64<<20)
	o = newObject(t, c, "a", int64(len(want)))
	if n := o.Read(t.Context(), 0, p); n != 100*PageSize || !bytes.Equal(p[:n], want[:n]) {
		t.Errorf("before the gap: %d bytes", n)
	}
	if n := o.Read(t.Context(), 101, p[101*PageSize:]); n != 49*PageSize+100 || !bytes.Equal(p[101*PageSize:], want[101*PageSize:]) {
		t.Errorf("after the gap: %d bytes", n)
	}
	if kept := readAll(t, o, want); kept != 150 {
		t.Errorf("%d pages one by one", kept)
	}
	// What was taken from the limit and not written was given back by Close.
	kept, bytes := c.Stats().BytesKept, used(t, filepath.Join(dir, subdir))
	if kept < bytes-2*4096 || kept > bytes+bytes/10 {
		t.Errorf("the total is %d, used are %d bytes", kept, bytes)
	}
	for path, want := range map[string]fs.FileMode{"": fs.ModeDir | 0o700, totalFile: 0o600, o.id.file[:2]: fs.ModeDir | 0o700, place(o.id.file): 0o600} {
		info, err := os.Stat(filepath.Join(c.dir, path))
		if err != nil || info.Mode() != want {
			t.Errorf("%q: %v, %v; want %v", path, info.Mode(), err, want)
		}
	}
}

// Catches arguments that lead outside the object, and states that are taken for others.
func TestArguments(t *testing.T) {
	c := newCache(t, t.TempDir(), 0)
	want := content("a", 2*PageSize+1)
	size := int64(len(want))
	o := newObject(t, c, "a", size)
	for _, page := range []int64{-1, -1 << 62, 3, 4, 1 << 62} {
		o.Write(page, want)
		if n := o.Read(t.Context(), page, want); n != 0 || o.Has(page) {
			t.Errorf("page %d: %d bytes", page, n)
		}
	}
	o.Write(0, want[:PageSize-1]) // no whole page
	o.Write(1, want[PageSize:2*PageSize+0])
	if o.Has(0) || !o.Has(1) {
		t.Error("half a page is kept, or a whole one is not")
	}
	o.Write(0, append(want, "beyond"...))
	p := make([]byte, size+100)
	if n := o.Read(t.Context(), 0, p); n != len(want) || !bytes.Equal(p[:n], want) {
		t.Errorf("%d bytes of %d", n, size)
	}
	if n := o.Read(t.Context(), 1, p[:PageSize+1]); n != PageSize+1 {
		t.Errorf("to the end: %d bytes", n)
	}
	if n := o.Read(t.Context(), 0, p[:PageSize+1]); n != PageSize {
		t.Errorf("a page and a byte: %d bytes", n)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if n := o.Read(ended, 0, p); n != 0 {
		t.Errorf("with an ended context: %d bytes", n)
	}

	other := infoOf(size)
	for what, change := range map[string]func(){
		"size": func() { other.Size++ },
		"time": func() { other.ModTime = made.Add(1) },
		"etag": func() { other.ETag += " " },
	} {
		other = infoOf(size)
		change()
		x, err := c.Object(here, "a", other)
		if err != nil {
			t.Fatal(err)
		}
		if x.Has(0) || x.Read(t.Context(), 0, p) != 0 {
			t.Errorf("another %s, and the same pages", what)
		}
		x.Close()
	}
	for _, names := range [][2]string{{here, "b"}, {here + "a", ""}, {"", here + "a"}, {here[:len(here)-1], "1a"}} {
		x, err := c.Object(names[0], names[1], infoOf(size))
		if err != nil {
			t.Fatal(err)
		}
		if x.Has(0) || x.Read(t.Context(), 0, p) != 0 {
			t.Errorf("%q has the pages of another object", names)
		}
		x.Close()
	}

	// What cannot be kept is not, whatever a server says.
	for _, info := range []source.Info{
		{}, {Size: -1}, {Size: maxSize + 1}, {Size: 1<<63 - 1},
		{Size: PageSize, ETag: strings.Repeat("e", headerSize)}, {Size: PageSize, ETag: strings.Repeat("e", 1<<20)},
	} {
		x, err := c.Object(here, "odd", info)
		if err != nil {
			t.Fatalf("%d bytes: %v", info.Size, err)
		}
		x.Write(0, want)
		if x.Has(0) || x.Read(t.Context(), 0, p) != 0 {
			t.Errorf("%d bytes: kept", info.Size)
		}
		x.Close()
	}
	big := newObject(t, c, "big", maxSize)
	big.Write(maxSize/PageSize-1, want[:PageSize])
	if n := big.Read(t.Context(), maxSize/PageSize-1, p); n != PageSize || !bytes.Equal(p[:n], want[:n]) {
		t.Errorf("the last page of the largest object: %d bytes", n)
	}
	if s := c.Stats(); s.Limit != 10<<30 || s.WriteFailures != 0 || s.DamagedPages != 0 {
		t.Errorf("%+v", s)
	}
}

// Catches a state that is not found offline, an old one that is, and one that has been evicted.
func TestKnown(t *testing.T) {
	c := newCache(t, t.TempDir(), 0)
	if _, ok := c.Known(here, "a"); ok {
		t.Error("an empty cache knows a state")
	}
	page := content("a", PageSize)
	keep := func(info source.Info) *Object {
		o, err := c.Object(here, "a", info)
		if err != nil {
			t.Fatal(err)
		}
		o.Write(0, page)
		o.Close()
		return o
	}
	first := source.Info{Size: PageSize, ModTime: made, ETag: "\x00\xff\n"}
	second := source.Info{Size: PageSize + 1}
	for _, info := range []source.Info{first, second, first} {
		keep(info)
		got, ok := c.Known(here, "a")
		if !ok || got.Size != info.Size || !got.ModTime.Equal(info.ModTime) || got.ETag != info.ETag || got.ModTime.IsZero() != info.ModTime.IsZero() {
			t.Errorf("%+v, %v; want %+v", got, ok, info)
		}
	}
	for _, names := range [][2]string{{here, "b"}, {"", "a"}, {here + "a", ""}} {
		if _, ok := c.Known(names[0], names[1]); ok {
			t.Errorf("%q is known", names)
		}
	}
	// An object that is only opened is not kept.
	o := newObject(t, c, "b", 1)
	if _, ok := c.Known(here, "b"); ok || o.Has(0) {
		t.Error("an object without pages is known")
	}
	for _, k := range keptStates(c) {
		c.evict(k, k.bytes, 0)
	}
	if _, ok := c.Known(here, "a"); ok {
		t.Error("an evicted state is known")
	}
	if left, err := filepath.Glob(filepath.Join(c.dir, "??")); len(left) != 0 || err != nil {
		t.Errorf("left of evicted states: %v, %v", left, err)
	}
	// Links that lead elsewhere are not followed.
	keep(first)
	link := filepath.Join(c.dir, place(nameHash(here, "a")))
	for _, target := range []string{"/etc/passwd", "../total", strings.Repeat("0", 32) + "-" + strings.Repeat("0", 20), "."} {
		if err := errors.Join(os.Remove(link), os.Symlink(target, link)); err != nil {
			t.Fatal(err)
		}
		if _, ok := c.Known(here, "a"); ok {
			t.Errorf("a link to %s is a known state", target)
		}
	}
	keep(first)
	if _, ok := c.Known(here, "a"); !ok {
		t.Error("the link is not mended")
	}
	// Nor is a file believed that another has taken the place of.
	x := newObject(t, c, "x", PageSize)
	x.Write(0, page)
	if err := os.Rename(x.path(), filepath.Join(filepath.Dir(link), keep(first).id.file)); err != nil {
		t.Fatal(err)
	}
	if info, ok := c.Known(here, "a"); ok {
		t.Errorf("known from another object's file: %+v", info)
	}
}

func keptStates(c *Cache) []stateFile {
	_, states := c.count()
	return states
}

// Catches calls after Close that do something, and one of Object that only seems to work.
func TestClosed(t *testing.T) {
	c := newCache(t, t.TempDir(), 0)
	page := content("a", PageSize)
	o, x := newObject(t, c, "a", PageSize), newObject(t, c, "x", PageSize)
	o.Write(0, page)
	x.Close()
	x.Write(0, page)
	if x.Has(0) || x.Read(t.Context(), 0, make([]byte, PageSize)) != 0 {
		t.Error("a closed object keeps pages")
	}
	for range 2 {
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Object(here, "b", infoOf(1)); !errors.Is(err, fs.ErrClosed) || !strings.Contains(err.Error(), "b") {
		t.Errorf("object of a closed cache: %v", err)
	}
	o.Write(0, page)
	if readAll(t, o, page) != 1 {
		t.Error("an open object reads no more")
	}
	if s := c.Stats(); s.BytesWritten != PageSize || s.WriteFailures != 2 {
		t.Errorf("%+v", s)
	}
	o.Close()
	o.Close()
}

// Catches races, between goroutines on one object, on two of one state, and with eviction.
func TestConcurrent(t *testing.T) {
	c := newCache(t, t.TempDir(), 1<<20)
	contents := make(map[string][]byte)
	var objects []*Object
	for _, name := range []string{"a", "a", "b", "c"} {
		contents[name] = content(name, 40*PageSize+7)
		objects = append(objects, newObject(t, c, name, 40*PageSize+7))
	}
	names := []string{"a", "a", "b", "c"}
	var working sync.WaitGroup
	for worker := range 4 {
		working.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(worker)))
			p := make([]byte, 41*PageSize)
			for range 150 {
				i := random.IntN(len(objects))
				o, want := objects[i], contents[names[i]]
				page := random.Int64N(41)
				pages := want[page*PageSize : min(int64(len(want)), (page+1+random.Int64N(5))*PageSize)]
				switch random.IntN(4) {
				case 0:
					o.Write(page, pages)
				case 1:
					o.Has(page)
					c.Known(here, names[i])
					c.Stats()
				default:
					if n := o.Read(t.Context(), page, p[:len(pages)]); !bytes.Equal(p[:n], pages[:n]) {
						t.Errorf("%s, page %d: %d wrong bytes", names[i], page, n)
					}
				}
			}
			objects[worker].Close()
		})
	}
	working.Wait()
	s := c.Stats()
	if s.Hits == 0 || s.Evictions == 0 {
		t.Errorf("nothing happened: %+v", s)
	}
	fmt.Fprintf(t.Output(), "%+v\n", s)
}

// Catches reads that make garbage for each page; the race detector makes some for each read.
func TestAllocations(t *testing.T) {
	c := newCache(t, t.TempDir(), 0)
	want := content("a", 32*PageSize)
	o := newObject(t, c, "a", int64(len(want)))
	o.Write(0, want[:16*PageSize])
	p := make([]byte, 16*PageSize)
	ctx := t.Context()
	if n := testing.AllocsPerRun(100, func() { o.Read(ctx, 0, p); o.Has(3) }); n > 2 {
		t.Errorf("%v allocations for a read", n)
	}
}
