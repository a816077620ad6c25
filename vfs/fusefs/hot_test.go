package fusefs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tesserafs/tesserafs/vfs"
	"github.com/tesserafs/tesserafs/vfs/memfs"
)

// readWhole reads a file and compares it.
func readWhole(t *testing.T, file string, want []byte) {
	t.Helper()
	if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s: %d bytes, %v, want %d that may differ", file, len(got), err, len(want))
	}
}

// until waits for something that happens in the background.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for range 500 {
		if done() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%s: did not happen", what)
}

// closed waits until the door knows of every close.
func closed(t *testing.T, s *Server) {
	t.Helper()
	until(t, "close", func() bool { return s.Stats().OpenFiles == 0 })
}

// makeHot reads a file until there is a copy of it.
func makeHot(t *testing.T, s *Server, file string) {
	t.Helper()
	before := s.Stats().HotFiles
	for range 2 {
		if _, err := os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
	}
	closed(t, s)
	until(t, "copy of "+file, func() bool { return s.Stats().HotFiles > before })
}

// bySelf tells whether reading a file whole asks the door for nothing.
func bySelf(t *testing.T, s *Server, file string, want []byte) bool {
	t.Helper()
	before := s.Stats()
	readWhole(t, file, want)
	after := s.Stats()
	if (after.Reads == before.Reads) != (after.HotOpens > before.HotOpens) {
		t.Errorf("%s: %+v, then %+v", file, before, after)
	}
	return after.Reads == before.Reads
}

// TestHot would catch a third read that still asks the door, a copy of what must not be copied, and
// a copied file that looks different from before.
func TestHot(t *testing.T) {
	big := noise(5<<20 + 1234)
	holes := append([]byte(nil), big...)
	clear(holes[1<<20 : 3<<20])
	dir, s := show(t, memfs.New(map[string]memfs.File{
		"plain":  {Data: big},
		"sparse": {Data: holes, Block: 4096, Xattrs: map[string]string{"user.a": "1"}},
		"small":  {Data: big[:1000]},
	}), Config{HotBytes: 64 << 20})
	for name, data := range map[string][]byte{"plain": big, "sparse": holes} {
		file := path(dir, "%s", name)
		makeHot(t, s, file)
		if !bySelf(t, s, file, data) {
			t.Errorf("%s: the third read asks the door", name)
		}
		var st unix.Stat_t
		if err := unix.Stat(file, &st); err != nil || st.Size != int64(len(data)) || st.Mode != unix.S_IFREG|0o444 {
			t.Errorf("%s: %+v, %v", name, st, err)
		}
	}
	f, err := os.Open(path(dir, "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	if off, err := unix.Seek(int(f.Fd()), 0, unix.SEEK_HOLE); off != 1<<20 || err != nil {
		t.Errorf("the first hole of a hot file is at %d, %v", off, err)
	}
	if n, err := unix.Getxattr(path(dir, "sparse"), "user.a", make([]byte, 10)); n != 1 || err != nil {
		t.Errorf("xattr of a hot file: %d, %v", n, err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	for range 4 {
		readWhole(t, path(dir, "small"), big[:1000])
	}
	if st := s.Stats(); st.HotFiles != 2 || st.HotBytes != int64(2*len(big)) {
		t.Errorf("%+v", st)
	}
}

// TestHotMixture would catch opens that fail because handles of both kinds meet, and a file that
// stays cold after that. The kernel answers EIO to a mixture.
func TestHotMixture(t *testing.T) {
	data := noise(3 << 20)
	dir, s := show(t, memfs.New(map[string]memfs.File{"f": {Data: data}}), Config{HotBytes: 64 << 20})
	file := path(dir, "f")
	early, err := os.Open(file) // asks the door, and goes on to
	if err != nil {
		t.Fatal(err)
	}
	readWhole(t, file, data)
	readWhole(t, file, data)
	until(t, "copy", func() bool { return s.Stats().HotFiles == 1 })
	for range 3 {
		if bySelf(t, s, file, data) {
			t.Error("a copy is used beside a handle that asks")
		}
	}
	checkAt(t, early, data)
	if err := early.Close(); err != nil {
		t.Error(err)
	}
	closed(t, s)
	late, err := os.Open(file) // reads the copy
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if !bySelf(t, s, file, data) {
			t.Error("the door is asked beside a handle that reads a copy")
		}
	}
	p := start(t, "mmap", file, "shared")
	if got := p.says(t); got != sum(data) {
		t.Error("other bytes are mapped")
	}
	checkAt(t, late, data)
	if err := late.Close(); err != nil {
		t.Error(err)
	}
	closed(t, s)
	if !bySelf(t, s, file, data) {
		t.Error("the door is asked after all were closed")
	}
}

func checkAt(t *testing.T, f *os.File, data []byte) {
	t.Helper()
	p := make([]byte, 100_000)
	for off := int64(0); off+int64(len(p)) <= int64(len(data)); off += 777_777 {
		if n, err := f.ReadAt(p, off); n != len(p) || err != nil || !bytes.Equal(p, data[off:off+int64(n)]) {
			t.Errorf("at %d: %d bytes, %v", off, n, err)
		}
	}
}

// TestHotChanged would catch a copy served after its file said that it has changed, and an open that
// fails for it. Handles of before go on, and with them, as the kernel wants it, those that join.
func TestHotChanged(t *testing.T) {
	for _, how := range []string{"changed", "panics"} {
		t.Run(how, func(t *testing.T) {
			var changed atomic.Bool
			verdict := func() error {
				if !changed.Load() {
					return nil
				}
				if how == "panics" {
					panic("told to")
				}
				return vfs.ErrChanged
			}
			data := noise(2 << 20)
			dir, s := show(t, memfs.New(map[string]memfs.File{"f": {
				Data: data, Changed: verdict,
				Before: func(context.Context, int64, int) error {
					if changed.Load() {
						return vfs.ErrChanged
					}
					return nil
				},
			}}), Config{HotBytes: 64 << 20})
			file := path(dir, "f")
			makeHot(t, s, file)
			held, err := os.Open(file)
			if err != nil {
				t.Fatal(err)
			}
			changed.Store(true)
			readWhole(t, file, data)
			checkAt(t, held, data)
			if err := held.Close(); err != nil {
				t.Error(err)
			}
			closed(t, s)
			for range 4 {
				if _, err := preadFile(file, make([]byte, 10), 0); !errors.Is(err, unix.ESTALE) {
					t.Errorf("after the change: %v, want ESTALE", err)
				}
			}
			until(t, "end of the copy", func() bool { return s.Stats().HotBytes == 0 })
		})
	}
}

// TestHotFails would catch a file that cannot be copied and is spoilt by the attempt.
func TestHotFails(t *testing.T) {
	for name, hook := range map[string]memfs.Hook{
		"error": memfs.Fail(vfs.ErrDamaged), "panic": memfs.Panic("told to"),
	} {
		t.Run(name, func(t *testing.T) {
			data := noise(4 << 20)
			var tried atomic.Int64
			log := &lines{}
			dir, s := show(t, memfs.New(map[string]memfs.File{"f": {
				Data: data,
				Before: func(ctx context.Context, off int64, n int) error {
					if n <= maxRead || off == 0 { // a client's, or the first of the copying
						return nil
					}
					tried.Add(1)
					return hook(ctx, off, n)
				},
			}}), Config{HotBytes: 64 << 20, Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
			for range 6 {
				readWhole(t, path(dir, "f"), data)
				closed(t, s)
			}
			until(t, "the log", func() bool { return strings.Contains(log.String(), "no hot copy") })
			readWhole(t, path(dir, "f"), data)
			if st := s.Stats(); st.HotFiles != 0 || st.HotBytes != 0 || st.HotOpens != 0 || tried.Load() != 1 {
				t.Errorf("%d attempts: %+v", tried.Load(), st)
			}
		})
	}
}

// TestHotBudget would catch memory beyond the budget, and a scan of many files that drives out the
// ones read again and again.
func TestHotBudget(t *testing.T) {
	const size = 2 << 20
	files := map[string]memfs.File{"too big": {Data: noise(9 << 20)}}
	for i := range 20 {
		files[fmt.Sprint(i)] = memfs.File{Data: noise(size)}
	}
	dir, s := show(t, memfs.New(files), Config{HotBytes: 4*size + 100})
	for i := range 3 {
		makeHot(t, s, path(dir, "%d", i))
		for range 5 {
			readWhole(t, path(dir, "%d", i), files[fmt.Sprint(i)].Data)
		}
	}
	for range 2 {
		for i := 3; i < 20; i++ {
			readWhole(t, path(dir, "%d", i), files[fmt.Sprint(i)].Data)
			closed(t, s)
			if st := s.Stats(); st.HotBytes > 4*size+100 {
				t.Fatalf("%+v", st)
			}
		}
	}
	for range 3 {
		readWhole(t, path(dir, "too big"), files["too big"].Data)
	}
	closed(t, s)
	for i := range 3 {
		if !bySelf(t, s, path(dir, "%d", i), files[fmt.Sprint(i)].Data) {
			t.Errorf("%d was driven out", i)
		}
	}
	// Once something else is read more often, it gets its place.
	for range 40 {
		readWhole(t, path(dir, "19"), files["19"].Data)
		readWhole(t, path(dir, "18"), files["18"].Data)
		closed(t, s)
	}
	until(t, "new copies", func() bool {
		return bySelf(t, s, path(dir, "18"), files["18"].Data) && bySelf(t, s, path(dir, "19"), files["19"].Data)
	})
	if st := s.Stats(); st.HotBytes > 4*size+100 {
		t.Errorf("%+v", st)
	}
}

// TestHotAge would catch popularity that lasts for ever, or not at all.
func TestHotAge(t *testing.T) {
	_, s := show(t, memfs.New(nil), Config{HotBytes: 10})
	h := &hot{budget: 10, used: 10, files: s.hot.files, copies: map[*hotCopy]struct{}{}}
	node := func() *fileNode {
		return &fileNode{file: fileOf(t, memfs.File{Data: noise(10)}), state: &fileState{}}
	}
	old, young := node(), node()
	f, err := h.files.create(10)
	if err != nil {
		t.Fatal(err)
	}
	id, err := h.files.register(f)
	if err != nil {
		t.Fatal(err)
	}
	c := &hotCopy{node: old, file: f, id: id, size: 10, refs: 1}
	h.copies[c] = struct{}{}
	old.state.heat = heat{copy: c, count: 1000}
	young.state.heat = heat{count: 3}
	if h.admit(young, 10, true) {
		t.Error("a file opened 3 times drives out one opened 1000 times")
	}
	h.opens += 8 * hotAge
	h.bring(&young.state.heat)
	young.state.count = 5 // of late
	if h.admit(young, 11, true) {
		t.Error("more is admitted than fits")
	}
	if old.state.copy == nil {
		t.Error("a copy made way for what does not fit")
	}
	if !h.admit(young, 10, true) || h.used != 10 || len(h.copies) != 0 || old.state.copy != nil {
		t.Errorf("1000 opens long ago outweigh 5 of late: %+v", h)
	}
	if old.state.count != 3 {
		t.Errorf("1000 opens count %d after 8 ages", old.state.count)
	}
	h.opens += 1000 * hotAge
	h.bring(&old.state.heat)
	if old.state.count != 0 {
		t.Errorf("1000 opens count %d after 1008 ages", old.state.count)
	}
}
