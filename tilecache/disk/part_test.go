package disk

import (
	"bytes"
	"math/rand/v2"
	"os"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Catches parts of pages that come back shifted, beyond the end or of a page that is not kept, and an index that is
// taken for that of other pages than it was read for.
func TestReadPart(t *testing.T) {
	c := newCache(t, t.TempDir(), 64<<20)
	want := content("a", 1200*PageSize+100)
	o := newObject(t, c, "a", int64(len(want)))
	var x Index
	if n := o.ReadPart(t.Context(), &x, 0, make([]byte, 100)); n != 0 {
		t.Errorf("an empty cache has %d bytes", n)
	}
	x.Reset()
	gap := int64(700) // the page that is not kept
	o.Write(0, want[:gap*PageSize])
	o.Write(gap+1, want[(gap+1)*PageSize:])
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		off := random.Int64N(int64(len(want)))
		if random.IntN(4) == 0 {
			off = off / PageSize * PageSize
		}
		p := make([]byte, min(1+random.Int64N(20*PageSize), int64(len(want))-off))
		right := len(p)
		if hole := gap * PageSize; off < hole+PageSize && off+int64(len(p)) > hole {
			right = int(max(hole-off, 0))
		}
		if n := o.ReadPart(t.Context(), &x, off, p); n != right || !bytes.Equal(p[:n], want[off:][:n]) {
			t.Fatalf("%d bytes at %d: %d, want %d", len(p), off, n, right)
		}
		page := random.Int64N(1300) - 20
		if keeps := o.Keeps(&x, page); keeps != (page >= 0 && page <= 1200 && page != gap) {
			t.Fatalf("keeps page %d: %v", page, keeps)
		}
	}
	beyond := make([]byte, 200)
	if n := o.ReadPart(t.Context(), &x, int64(len(want))-100, beyond); n != 100 || !bytes.Equal(beyond[:n], want[len(want)-100:]) {
		t.Errorf("%d bytes around the end", n)
	}
}

// Catches a damaged page that shows when a part of it is wanted, or more than it, or that is not dropped.
func TestReadPartOfDamaged(t *testing.T) {
	c := newCache(t, t.TempDir(), 64<<20)
	want := content("a", 20*PageSize)
	for name, at := range map[string]int{"begin": 0, "wanted": PageSize / 2, "end": PageSize - 1} {
		o := newObject(t, c, name, int64(len(want)))
		o.Write(0, want)
		f, err := os.OpenFile(o.path(), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		place := pagesOffset(o.size) + int64(9*PageSize+at)
		if _, err := f.WriteAt([]byte{^want[9*PageSize+at]}, place); err != nil {
			t.Fatal(err)
		}
		f.Close()
		var x Index
		p := make([]byte, 6*PageSize)
		if n := o.ReadPart(t.Context(), &x, 5*PageSize+7, p); n != 4*PageSize-7 || !bytes.Equal(p[:n], want[5*PageSize+7:][:n]) {
			t.Errorf("%s: %d bytes before the damaged page", name, n)
		}
		if n := o.ReadPart(t.Context(), &x, 9*PageSize+PageSize/2, p[:10]); n != 0 {
			t.Errorf("%s: %d bytes of the damaged page", name, n)
		}
		if o.Has(9) {
			t.Errorf("%s: the damaged page is still kept", name)
		}
	}
}

// Catches a file that another process has evicted or taken the place of, read on as if it were what it was.
func TestReadPartOfEvicted(t *testing.T) {
	c := newCache(t, t.TempDir(), 64<<20)
	want := content("a", 20*PageSize)
	o := newObject(t, c, "a", int64(len(want)))
	o.Write(0, want)
	var x Index
	if !o.Keeps(&x, 3) {
		t.Fatal("it is not kept")
	}
	// As evicting does.
	if err := os.Remove(o.path()); err != nil {
		t.Fatal(err)
	}
	if err := x.file.Truncate(0); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 5*PageSize)
	if n := o.ReadPart(t.Context(), &x, 3*PageSize, p); n != 0 {
		t.Errorf("%d bytes of a file that is empty", n)
	}
	if s := c.Stats(); s.DamagedPages != 0 {
		t.Errorf("evicted pages count as damaged: %+v", s)
	}
	// Another process fetches them again.
	other := newObject(t, newCache(t, c.dir[:len(c.dir)-len(subdir)], 64<<20), "a", int64(len(want)))
	other.Write(0, want)
	x.Reset()
	if n := o.ReadPart(t.Context(), &x, 3*PageSize, p); n != len(p) || !bytes.Equal(p, want[3*PageSize:][:n]) {
		t.Errorf("%d bytes of the file that has taken its place", n)
	}
}

// Catches WillNeed of the wrong part of the file.
func TestWillNeed(t *testing.T) {
	c := newCache(t, t.TempDir(), 64<<20)
	want := content("a", 1000*PageSize)
	o := newObject(t, c, "a", 16<<30) // whose index takes 8 MiB before the pages
	o.WillNeed(0, 10)                 // There is no file yet.
	o.Write(0, want)
	f := o.open()
	// Only clean pages leave the page cache.
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		t.Fatal(err)
	}
	resident := func(page int64) bool {
		m, err := unix.Mmap(int(f.Fd()), pagesOffset(o.size)+page*PageSize, PageSize, unix.PROT_READ, unix.MAP_SHARED)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Munmap(m)
		var in [PageSize / 4096]byte // smaller pages there are not
		if _, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&m[0])), PageSize, uintptr(unsafe.Pointer(&in[0]))); errno != 0 {
			t.Fatal(errno)
		}
		return in[0]&1 != 0
	}
	if resident(500) || resident(509) {
		t.Skip("TMPDIR is in memory, where nothing leaves the page cache: set it to a directory on disk")
	}
	o.WillNeed(500, 510)
	for deadline := time.Now().Add(5 * time.Second); !resident(500) || !resident(509); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the pages are not read")
		}
	}
	if resident(600) {
		t.Error("others are read too")
	}
}
