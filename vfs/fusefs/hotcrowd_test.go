package fusefs

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tesserafs/tesserafs/vfs"
	"github.com/tesserafs/tesserafs/vfs/memfs"
)

// TestHotMapped would catch memory of a copy that is used for another file while a client still maps
// it: a handle is released before its mappings are.
func TestHotMapped(t *testing.T) {
	const size = 2 << 20
	files := map[string]memfs.File{}
	for i := range 4 {
		data := noise(size)
		data[0] = byte(i)
		files[fmt.Sprint(i)] = memfs.File{Data: data}
	}
	dir, s := show(t, memfs.New(files), Config{HotBytes: size})
	makeHot(t, s, path(dir, "0"))
	p := start(t, "mmap", path(dir, "0"), "shared")
	want := sum(files["0"].Data)
	if p.says(t) != want {
		t.Fatal("other bytes are mapped")
	}
	closed(t, s)
	for i := 1; i < 4; i++ {
		for range 30 * i {
			readWhole(t, path(dir, "%d", i), files[fmt.Sprint(i)].Data)
		}
		until(t, "another copy", func() bool { return bySelf(t, s, path(dir, "%d", i), files[fmt.Sprint(i)].Data) })
		p.tell(t)
		if p.says(t) != want {
			t.Errorf("copy %d took the place of one that is mapped", i)
		}
	}
}

// TestHotCrowd would catch any order of opens, reads, closes, changes and evictions in which an open
// fails or a byte is wrong.
func TestHotCrowd(t *testing.T) {
	const n, size = 6, 3 << 19
	var flip [n]atomic.Bool
	files := map[string]memfs.File{}
	for i := range n {
		data := noise(size)
		data[0] = byte(i)
		files[fmt.Sprint(i)] = memfs.File{Data: data, Changed: func() error {
			if flip[i].Load() {
				return vfs.ErrChanged
			}
			return nil
		}}
	}
	dir, s := show(t, memfs.New(files), Config{HotBytes: 2 * size})
	deadline := time.Now().Add(3 * time.Second)
	var wg sync.WaitGroup
	var opens atomic.Int64
	for g := range uint64(6) {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(g, 1))
			var held []*os.File
			p := make([]byte, 200_000)
			for time.Now().Before(deadline) {
				i := rng.IntN(n)
				f, err := os.Open(path(dir, "%d", i))
				if err != nil {
					t.Errorf("open: %v", err)
					return
				}
				opens.Add(1)
				data := files[fmt.Sprint(i)].Data
				for range rng.IntN(12) {
					off := rng.IntN(size)
					m, err := f.ReadAt(p, int64(off))
					if err != nil && err != io.EOF || !bytes.Equal(p[:m], data[off:min(off+len(p), size)]) {
						t.Errorf("%d: read at %d: %d bytes, %v", i, off, m, err)
					}
				}
				if held = append(held, f); len(held) > rng.IntN(4) {
					for _, f := range held {
						if err := f.Close(); err != nil {
							t.Errorf("close: %v", err)
						}
					}
					held = held[:0]
				}
				if rng.IntN(400) == 0 {
					flip[rng.IntN(n-1)].Store(true) // the last one never changes
				}
			}
			for _, f := range held {
				_ = f.Close()
			}
		})
	}
	wg.Wait()
	closed(t, s)
	st := s.Stats()
	if st.HotOpens == 0 || st.HotOpens == opens.Load() {
		t.Errorf("of %d opens %d read a copy: the test tests nothing", opens.Load(), st.HotOpens)
	}
	if st.HotBytes > 2*size {
		t.Errorf("%+v", st)
	}
}
