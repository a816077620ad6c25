package disk

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Catches a limit that is passed at any time, by files, directories or links, and a cache that keeps far
// less than it may, for objects of any kind.
func TestLimit(t *testing.T) {
	for _, test := range []struct {
		limit, pages int64
	}{{1 << 20, 1}, {1 << 20, 7}, {4 << 20, 60}, {4 << 20, 150}} {
		t.Run(fmt.Sprint(test.limit>>20, "MiB, ", test.pages, " pages"), func(t *testing.T) {
			c := newCache(t, t.TempDir(), test.limit)
			size := test.pages * PageSize
			for i := int64(0); i*size < 2*test.limit; i++ {
				name := fmt.Sprint(i)
				newObject(t, c, name, size).Write(0, content(name, size))
				if bytes := used(t, c.dir); bytes > test.limit {
					t.Fatalf("after object %d: %d bytes", i, bytes)
				}
			}
			if bytes := used(t, c.dir); bytes < test.limit*8/10 {
				t.Errorf("%d of %d bytes are used", bytes, test.limit)
			}
			if s := c.Stats(); s.Evictions == 0 || s.WriteFailures != 0 || s.DamagedPages != 0 || s.BytesKept > test.limit {
				t.Errorf("%+v", s)
			}
		})
	}
}

// Catches an object that cannot be kept in part because it is larger than everything, one that pushes out
// the pages just written, and evicted pages that pass for kept ones.
func TestLargerThanTheLimit(t *testing.T) {
	const limit = 2 << 20
	c := newCache(t, t.TempDir(), limit)
	want := content("a", 5*limit+1)
	o := newObject(t, c, "a", int64(len(want)))
	const step = 20
	for pass := range 2 {
		for page := int64(0); page < pagesIn(o.size); page += step {
			pages := want[page*PageSize : min((page+step)*PageSize, int64(len(want)))]
			o.Write(page, pages)
			if bytes := used(t, c.dir); bytes > limit {
				t.Fatalf("pass %d, page %d: %d bytes used", pass, page, bytes)
			}
			// What was written last: half of the limit, on the first pass.
			if first := page - limit/2/PageSize; first >= 0 {
				p := want[first*PageSize : page*PageSize]
				if q := make([]byte, len(p)); o.Read(t.Context(), first, q) != len(q) || !bytes.Equal(p, q) {
					t.Fatalf("pass %d, page %d: the pages before are not kept", pass, page)
				}
			}
		}
	}
	if kept := readAll(t, o, want); kept < limit*8/10/PageSize {
		t.Errorf("%d pages are kept", kept)
	}
	if s := c.Stats(); s.WriteFailures != 0 || s.DamagedPages != 0 {
		t.Errorf("%+v", s)
	}
}

// Catches another order than that of last use, a use that is not noted or costs a system call each
// time, and one that is forgotten with the process.
func TestLeastRecentlyUsed(t *testing.T) {
	dir := t.TempDir()
	c := newCache(t, dir, 4<<20)
	const size = 40 * PageSize
	names := []string{"a", "b", "c", "d", "e"}
	for i, name := range names {
		o := newObject(t, c, name, size)
		o.Write(0, content(name, size))
		used := time.Now().Add(time.Duration(i-10) * time.Hour)
		if err := os.Chtimes(o.path(), used, used); err != nil {
			t.Fatal(err)
		}
	}
	c = newCache(t, dir, 4<<20)
	b := newObject(t, c, "b", size)
	if readAll(t, b, content("b", size)) != 40 {
		t.Fatal("b is not kept")
	}
	info, err := os.Stat(b.path())
	if err != nil || time.Since(info.ModTime()) > time.Minute {
		t.Errorf("a read leaves the time of last use %v, %v", info.ModTime(), err)
	}
	if err := os.Chtimes(b.path(), made, made); err != nil {
		t.Fatal(err)
	}
	readAll(t, b, content("b", size))
	if info, err := os.Stat(b.path()); err != nil || !info.ModTime().Equal(made) {
		t.Errorf("a second read sets it again: %v, %v", info.ModTime(), err)
	}
	if err := os.Chtimes(b.path(), time.Time{}, time.Now()); err != nil {
		t.Fatal(err)
	}
	newObject(t, c, "f", 2*size).Write(0, content("f", 2*size))
	left := map[string]int{}
	for _, name := range names {
		left[name] = readAll(t, newObject(t, c, name, size), content(name, size))
	}
	if left["a"] != 0 || left["b"] != 40 || left["d"] != 40 || left["e"] != 40 {
		t.Errorf("pages left: %v, want none of a and all of b, d and e", left)
	}
}

// Catches a filesystem that punches no holes, or a file that cannot be understood, keeping its room for
// ever: such states go whole.
func TestPunch(t *testing.T) {
	c := newCache(t, t.TempDir(), 0)
	const size = 100*PageSize + 5
	want := content("a", size)
	for _, test := range []struct {
		page, bytes int64
		gone        []int // pages
	}{
		{0, 1, []int{0, 16}},
		{3, PageSize, []int{3, 16}},
		{95, 20 * PageSize, []int{95, 101, 0, 16}},
		{101, 1, []int{0, 16}},
		{50, 99 * PageSize, []int{50, 101, 0, 50}},
	} {
		o := newObject(t, c, "a", size)
		o.Write(0, want)
		f := o.open()
		before, _, _ := f.blocks()
		freed := punch(f, size, test.page, test.bytes)
		if now, _, _ := f.blocks(); freed < test.bytes || before-now != freed {
			t.Errorf("%d bytes from page %d: %d freed, of %d are left %d", test.bytes, test.page, freed, before, now)
		}
		for page := range pagesIn(size) {
			gone := false
			for i := 0; i < len(test.gone); i += 2 {
				gone = gone || int(page) >= test.gone[i] && int(page) < test.gone[i+1]
			}
			if o.Has(page) == gone {
				t.Errorf("%d bytes from page %d: page %d is kept: %v", test.bytes, test.page, page, !gone)
			}
		}
		readAll(t, o, want)
	}
	o := newObject(t, c, "a", size)
	o.Write(0, want)
	before := used(t, c.dir)
	if _, err := o.open().WriteAt([]byte("x"), 0); err != nil {
		t.Fatal(err)
	}
	if freed := c.evict(keptStates(c)[0], 1, 0); freed < size || before-used(t, c.dir) < freed {
		t.Errorf("a file without its header: %d bytes freed", freed)
	}
	if s := c.Stats(); s.DamagedPages != 0 {
		t.Errorf("%+v", s)
	}
}

// Catches a total that is trusted when it is damaged, and mistakes of it that stay.
func TestTotal(t *testing.T) {
	const limit = 2 << 20
	c := newCache(t, t.TempDir(), limit)
	path := filepath.Join(c.dir, totalFile)
	number := func(n uint64, complement bool) []byte {
		b := make([]byte, 16)
		for i := range 8 {
			b[i] = byte(n >> (8 * i))
			if complement {
				b[8+i] = ^b[i]
			}
		}
		return b
	}
	for i, damage := range [][]byte{nil, {}, {1, 2, 3}, number(1, false), number(1<<63, true), number(1<<62, true), number(0, true)} {
		if damage == nil {
			os.Remove(path)
		} else if err := os.WriteFile(path, damage, 0o600); err != nil {
			t.Fatal(err)
		}
		for j := range 6 {
			name := fmt.Sprint(i, j)
			newObject(t, c, name, 16*PageSize).Write(0, content(name, 16*PageSize))
		}
		// One that is too low is believed, until it is full.
		if bytes := used(t, c.dir); i < 6 && bytes > limit || bytes > 2*limit {
			t.Errorf("total %d: %d bytes used", i, bytes)
		}
		if kept := c.Stats().BytesKept; kept > limit {
			t.Errorf("total %d: %d bytes", i, kept)
		}
	}
	if s := c.Stats(); s.WriteFailures != 0 {
		t.Errorf("%+v", s)
	}
}

// Catches writers that wait for ever for a process that was stopped while it held the lock, each for
// itself, and those who open and read waiting at all.
func TestLockHeld(t *testing.T) {
	c := newCache(t, t.TempDir(), 4<<20)
	c.patience = 50 * time.Millisecond
	want := content("a", 20*PageSize)
	o := newObject(t, c, "a", int64(len(want)))
	o.Write(0, want[:PageSize])
	held, err := os.Open(filepath.Join(c.dir, totalFile))
	if err == nil {
		err = unix.Flock(int(held.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	c.mu.Lock() // as one does who makes room
	readAll(t, newObject(t, c, "a", int64(len(want))), want)
	if _, ok := c.Known(here, "a"); !ok || !o.Has(0) || c.Stats().Hits == 0 {
		t.Error("nothing is kept while room is made")
	}
	c.mu.Unlock()
	begun := time.Now()
	var writing sync.WaitGroup
	for range 100 {
		writing.Go(func() { o.Write(0, want) })
		readAll(t, o, want)
	}
	writing.Wait()
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("100 writes took %v", took)
	}
	if s := c.Stats(); s.WriteFailures < 100 || s.DamagedPages != 0 {
		t.Errorf("%+v", s)
	}
	held.Close()
	c.paused.Store(0)
	o.Write(0, want)
	if kept := readAll(t, o, want); kept != 20 {
		t.Errorf("%d pages are kept afterwards", kept)
	}
}

// Catches another Cache that goes on with files that were evicted, or does not find the new ones.
func TestEvictedWhileOpen(t *testing.T) {
	dir := t.TempDir()
	mine, others := newCache(t, dir, 0), newCache(t, dir, 0)
	want := content("a", 20*PageSize)
	a, b := newObject(t, mine, "a", int64(len(want))), newObject(t, others, "a", int64(len(want)))
	a.Write(0, want[:10*PageSize])
	if n := readAll(t, b, want); n != 10 {
		t.Errorf("%d pages of another process are read", n)
	}
	evict := func() {
		for _, s := range keptStates(mine) {
			mine.evict(s, s.bytes, 0)
		}
	}
	evict()
	if bytes := used(t, dir); bytes > 4*4096 {
		t.Errorf("%d bytes are used after everything was evicted", bytes)
	}
	if n := readAll(t, b, want); n != 0 || b.Has(0) {
		t.Errorf("%d evicted pages are read", n)
	}
	a.Write(0, want)
	if n := readAll(t, b, want); n != 20 {
		t.Errorf("%d pages of the new file are read", n)
	}
	evict()
	b.Write(5, want[5*PageSize:7*PageSize])
	if n := readAll(t, a, want); n != 2 {
		t.Errorf("%d pages are read of a file that the other made", n)
	}
	for _, c := range []*Cache{mine, others} {
		if s := c.Stats(); s.DamagedPages != 0 || s.WriteFailures != 0 {
			t.Errorf("%+v", s)
		}
	}
	links, err := filepath.Glob(filepath.Join(mine.dir, "??", "*"))
	if err != nil || len(links) != 2 || slices.ContainsFunc(links, func(l string) bool { _, err := os.Stat(l); return errors.Is(err, os.ErrNotExist) }) {
		t.Errorf("left: %v, %v", links, err)
	}
}
