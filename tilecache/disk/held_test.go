package disk

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// Catches pages that are taken for kept or for missing, at the borders of what is looked at together too;
// and an object that is about to be completed and is evicted first.
func TestMissingAndHeld(t *testing.T) {
	c := newCache(t, t.TempDir(), 0)
	const size = (2*lookPages+3)*PageSize - 5
	want := content("a", size)
	o := newObject(t, c, "a", size)
	if _, _, ok := c.Held(here, "a"); ok || len(o.Missing()) != 2*lookPages+3 {
		t.Errorf("nothing is kept: held %v, %d pages missing", ok, len(o.Missing()))
	}
	var missing []int64
	for page := range pagesIn(size) {
		switch page {
		case 1, lookPages - 1, lookPages, 2*lookPages + 2:
			missing = append(missing, page)
		default:
			if page < 3 || page > lookPages-3 && page < lookPages+3 || page >= 2*lookPages {
				o.Write(page, want[page*PageSize:min((page+1)*PageSize, size)])
			} else {
				missing = append(missing, page)
			}
		}
	}
	old := time.Now().Add(-time.Hour)
	path := filepath.Join(c.dir, place(o.id.file))
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	again := newObject(t, c, "a", size)
	if got := again.Missing(); !slices.Equal(got, missing) {
		t.Errorf("%d are missing, not %d", len(got), len(missing))
	}
	if info, err := os.Stat(path); err != nil || time.Since(info.ModTime()) > time.Minute {
		t.Errorf("not marked as used: %v", err)
	}
	info, bytes, ok := c.Held(here, "a")
	if whole := size - int64(len(missing)-1)*PageSize - (PageSize - 5); !ok || bytes != whole || info.Size != size {
		t.Errorf("held %d bytes of %+v, want %d", bytes, info, whole)
	}
	o.Write(2*lookPages+2, want[(2*lookPages+2)*PageSize:])
	if got := newObject(t, c, "a", size).Missing(); !slices.Equal(got, missing[:len(missing)-1]) {
		t.Error("the last page, which is short, is missing still")
	}
	empty := newObject(t, c, "empty", 0)
	if len(empty.Missing()) != 0 {
		t.Error("an empty object misses pages")
	}
}

// Catches a limit that does not hold what it is said to hold, once there is other content: what was kept first
// would be evicted for what comes last.
func TestLimitFor(t *testing.T) {
	const objects, size = 12, 3<<20 + 100
	limit := LimitFor(objects * Takes(size))
	if limit > objects*size*2 {
		t.Errorf("a limit of %d for %d bytes", limit, objects*size)
	}
	c := newCache(t, t.TempDir(), limit)
	write := func(name string) {
		o := newObject(t, c, name, size)
		o.Write(0, content(name, size))
		o.Close()
	}
	for i := range 20 { // more than the limit
		write("before" + string(rune('a'+i)))
	}
	names := make([]string, objects)
	for i := range names {
		names[i] = "wanted" + string(rune('a'+i))
		write(names[i])
	}
	for _, name := range names {
		if _, bytes, _ := c.Held(here, name); bytes != size {
			t.Errorf("%s: %d bytes are held", name, bytes)
		}
	}
	if free, err := c.Free(); err != nil || free <= 0 {
		t.Errorf("%d bytes free, %v", free, err)
	}
}

// Catches less said to be taken than is: Takes is what limits are chosen by.
func TestTakes(t *testing.T) {
	c := newCache(t, t.TempDir(), 0)
	for _, size := range []int64{1, PageSize, 5*PageSize + 1, 10 << 20} {
		o := newObject(t, c, "a", size)
		o.Write(0, content("a", size))
		bytes, _, err := o.open().blocks()
		if err != nil || bytes > Takes(size) {
			t.Errorf("%d bytes take %d, not %d: %v", size, bytes, Takes(size), err)
		}
	}
}

// Catches an absence that is forgotten, that is believed of another object or of one that is there again, and a
// state that is known still of an object that is gone.
func TestAbsent(t *testing.T) {
	dir := t.TempDir()
	c := newCache(t, dir, 0)
	c.NoteAbsent(here, "a")
	other := newCache(t, dir, 0) // another process
	for _, c := range []*Cache{c, other} {
		if _, known := c.Known(here, "a"); !c.Absent(here, "a") || c.Absent(here, "b") || c.Absent("elsewhere", "a") || known {
			t.Error("an absence is not noted as it is")
		}
	}
	o := newObject(t, c, "a", PageSize)
	o.Write(0, content("a", PageSize))
	if _, known := other.Known(here, "a"); other.Absent(here, "a") || !known {
		t.Error("an object that is there is absent still")
	}
	c.NoteAbsent(here, "a")
	if _, known := other.Known(here, "a"); !other.Absent(here, "a") || known {
		t.Error("an object that is gone is known still")
	}
	// A link that was moved says nothing of where it lies now.
	from, to := filepath.Join(c.dir, place(nameHash(here, "a"))), filepath.Join(c.dir, place(nameHash(here, "b")))
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
	if c.Absent(here, "b") {
		t.Error("the absence of another object is believed")
	}
	if bytes, _ := c.count(); bytes > 100<<10 {
		t.Errorf("absences take %d bytes", bytes)
	}
}
