package fusefs

import (
	"bytes"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tesserafs/tesserafs/vfs"
	"github.com/tesserafs/tesserafs/vfs/memfs"
)

// readPart opens a file, reads a part, and closes it, as Zarr clients read an inner chunk of a shard.
func readPart(t *testing.T, s *Server, file string, data []byte, off, n int64) (asked int64) {
	t.Helper()
	before := s.Stats().Reads
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, n)
	if _, err := f.ReadAt(p, off); err != nil || !bytes.Equal(p, data[off:off+n]) {
		t.Errorf("%d bytes at %d differ: %v", n, off, err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	closed(t, s)
	return s.Stats().Reads - before
}

// TestKeepParts would catch a shard of which the same parts are read again and again, and asked for each
// time; and one that is kept although each part was read once.
func TestKeepParts(t *testing.T) {
	for _, hot := range []int64{0, 64 << 20} {
		t.Run(fmt.Sprintf("hot %d", hot), func(t *testing.T) { keepParts(t, Config{HotBytes: hot}) })
	}
}

func keepParts(t *testing.T, cfg Config) {
	const part = 512 << 10
	data := noise(24 << 20)
	var changed atomic.Bool
	dir, s := show(t, memfs.New(map[string]memfs.File{
		"once": {Data: data}, "again": {Data: data, Changed: func() error {
			if changed.Load() {
				return vfs.ErrChanged
			}
			return nil
		}},
	}), cfg)
	for off := int64(0); off < 10<<20; off += part {
		if readPart(t, s, path(dir, "once"), data, off, part) == 0 {
			t.Errorf("what was never read is not asked for, at %d", off)
		}
	}
	if readPart(t, s, path(dir, "once"), data, 0, part) == 0 {
		t.Error("what was read once is kept")
	}
	parts := []int64{0, 3 << 20, 7<<20 + part}
	for range 4 { // read, read once more, and then through the page cache
		for _, off := range parts {
			readPart(t, s, path(dir, "again"), data, off, part)
		}
	}
	for _, off := range parts {
		if readPart(t, s, path(dir, "again"), data, off, part) != 0 {
			t.Errorf("what was read four times is asked for, at %d", off)
		}
	}
	changed.Store(true)
	time.Sleep(2 * maxUnlooked)
	if readPart(t, s, path(dir, "again"), data, 0, part) == 0 {
		t.Error("a file that has changed is read from the page cache")
	}
}

// TestHotOnceRead would catch a file that was read once and gets no copy although there is room and
// nobody reads, one that is copied while somebody does, and one that another has to make way for.
func TestHotOnceRead(t *testing.T) {
	data := noise(2 << 20)
	files := map[string]memfs.File{"other": {Data: data[:1000], Content: func() []byte { return data[:1000] }}}
	for i := range 4 {
		files[fmt.Sprint(i)] = memfs.File{Data: data}
	}
	dir, s := show(t, memfs.New(files), Config{HotBytes: 6<<20 + 100})
	stop, ended := make(chan struct{}), make(chan struct{})
	longest := time.Duration(0) // that nobody read: on a busy machine it may be long
	go func() {
		defer close(ended)
		for last := time.Now(); ; {
			select {
			case <-stop:
				return
			default:
				_, _ = os.ReadFile(path(dir, "other")) // each asks the door
				now := time.Now()
				longest, last = max(longest, now.Sub(last)), now
			}
		}
	}()
	readWhole(t, path(dir, "0"), data)
	time.Sleep(3 * quietFor)
	copied := s.Stats().HotFiles
	close(stop)
	<-ended
	if copied != 0 && longest < quietFor/2 {
		t.Errorf("%d files are copied while others are read", copied)
	}
	until(t, "a copy of the first", func() bool { return s.Stats().HotFiles == 1 })
	for i := 1; i < 4; i++ {
		readWhole(t, path(dir, "%d", i), data)
	}
	until(t, "copies of as many as fit", func() bool { return s.Stats().HotFiles == 3 })
	time.Sleep(2 * quietFor)
	kept := 0 // which of them is as the kernel tells of their closes
	for i := range 4 {
		if bySelf(t, s, path(dir, "%d", i), data) {
			kept++
		}
	}
	if kept != 3 {
		t.Errorf("%d of 4 files have copies, after all were read once and 3 fit", kept)
	}
}

// TestKeepWithoutRoom would catch files that are read a second time, have no room for copies, and are
// asked for a third time: those waiting to be copied take room too.
func TestKeepWithoutRoom(t *testing.T) {
	const files = 8
	data := noise(2 << 20)
	tree := map[string]memfs.File{}
	for i := range files {
		tree[fmt.Sprint(i)] = memfs.File{Data: data}
	}
	dir, s := show(t, memfs.New(tree), Config{HotBytes: 4<<20 + 100})
	for range 2 {
		for i := range files {
			readWhole(t, path(dir, "%d", i), data)
		}
		closed(t, s)
	}
	until(t, "copies", func() bool { return s.Stats().HotFiles == 2 })
	before := s.Stats().Reads
	for i := range files {
		readWhole(t, path(dir, "%d", i), data)
	}
	if n := s.Stats().Reads - before; n != 0 {
		t.Errorf("the third time, %d reads are asked for", n)
	}
}
