package sourcetest

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/tesserafs/tesserafs/tilecache/source"
)

// Catches mappings of another length or other bytes than the object's, and mappings made twice. For
// sources whose objects cannot be mapped there is nothing to hold.
func testMap(t *testing.T, newSource New) {
	objects := map[string][]byte{"empty": {}, "small": pattern(5, 10), "page": pattern(os.Getpagesize(), 11), "large": pattern(1<<20+17, 12)}
	s, _ := newSource(t, objects)
	for name, data := range objects {
		o, ok := open(t, s, name).(source.Mapper)
		if !ok {
			return
		}
		m, err := o.Map()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if m == nil {
			t.Errorf("%s: Map gives nil", name)
		}
		// The kernel may touch the mapping, Go code may not: compare a file it was written to.
		path := filepath.Join(t.TempDir(), "copy")
		if err := os.WriteFile(path, m, 0o600); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, data) {
			t.Errorf("%s: the mapping has %d other bytes than the object's %d", name, len(got), len(data))
		}
		again, err := o.Map()
		if err != nil || len(again) != len(m) || len(m) > 0 && &again[0] != &m[0] {
			t.Errorf("%s: the second Map is another: %v", name, err)
		}
	}
}
