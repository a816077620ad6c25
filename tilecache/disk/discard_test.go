package disk

import "testing"

// Catches pages that are read still after they were found to be wrong, by whoever has them open; and room that
// stays taken.
func TestDiscard(t *testing.T) {
	dir := t.TempDir()
	c, other := newCache(t, dir, 0), newCache(t, dir, 0)
	const size = 3*PageSize + 7
	want := content("a", size)
	o, also, before := newObject(t, c, "a", size), newObject(t, other, "a", size), newObject(t, c, "b", size)
	o.Discard() // nothing yet
	o.Write(0, want)
	before.Write(0, content("b", size))
	if readAll(t, also, want) != 4 {
		t.Fatal("another process does not see what is kept")
	}
	taken := c.Stats().BytesKept
	o.Discard()
	o.Discard()
	for _, o := range []*Object{o, also, newObject(t, other, "a", size)} {
		if n := readAll(t, o, want); n != 0 {
			t.Errorf("%d pages are read still", n)
		}
	}
	if _, known := other.Known(here, "a"); known {
		t.Error("the state is known still")
	}
	if readAll(t, before, content("b", size)) != 4 {
		t.Error("another object has lost pages")
	}
	o.Write(0, want)
	if readAll(t, also, want) != 4 {
		t.Error("what is written afterwards is not kept")
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if now := other.Stats().BytesKept; now >= taken {
		t.Errorf("%d bytes are taken, before %d", now, taken)
	}
	(&Object{cache: c, closed: true}).Discard() // of which nothing is kept
}
