package fusefs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tesserafs/tesserafs/vfs"
	"github.com/tesserafs/tesserafs/vfs/memfs"
)

// TestMmap would catch mappings that fail, or show other bytes, with any way of serving a file:
// cached, direct, and read by the kernel from a copy.
func TestMmap(t *testing.T) {
	small, big := noise(300_001), noise(5<<20+4097)
	dir, s := show(t, memfs.New(map[string]memfs.File{
		"small": {Data: small},
		"big":   {Data: big},
		"hot":   {Data: big},
		"empty": {},
	}), Config{HotBytes: 64 << 20})
	makeHot(t, s, path(dir, "hot"))
	for _, kind := range []string{"shared", "private"} {
		for name, data := range map[string][]byte{"small": small, "big": big, "hot": big} {
			p := start(t, "mmap", path(dir, "%s", name), kind)
			if got := p.says(t); got != sum(data) {
				t.Errorf("%s, %s: other bytes are mapped", name, kind)
			}
			// Reads go on beside a mapping.
			if got, err := os.ReadFile(path(dir, "%s", name)); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%s, beside a %s mapping: %d bytes, %v", name, kind, len(got), err)
			}
			p.tell(t)
			if got := p.says(t); got != sum(data) {
				t.Errorf("%s, %s: the mapping changed", name, kind)
			}
		}
	}
}

// preadFile opens a file, which must succeed, and reads once.
func preadFile(name string, p []byte, off int64) (int, error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, fmt.Errorf("the open fails: %v", err)
	}
	defer f.Close()
	return f.ReadAt(p, off)
}

// TestSignals would catch a reader that is interrupted again and again and never gets on: its
// requests are given up, but the work they share goes on. Go programs are such readers, as their
// scheduler sends signals.
func TestSignals(t *testing.T) {
	data := noise(4 << 20)
	var interrupted atomic.Int64
	dir, s := show(t, memfs.New(map[string]memfs.File{
		"slow":  {Data: data, Before: shared(20*time.Millisecond, &interrupted)},
		"small": {Data: data[:200_000], Before: shared(20*time.Millisecond, &interrupted)},
	}), Config{})
	for name, want := range map[string][]byte{"slow": data, "small": data[:200_000]} {
		p := start(t, "signals", path(dir, "%s", name))
		if got := p.says(t); got != sum(want) {
			t.Errorf("%s: other bytes are read", name)
		}
		if err := p.cmd.Wait(); err != nil {
			t.Errorf("%s: client: %v", name, err)
		}
	}
	if interrupted.Load() == 0 {
		t.Error("no read was interrupted: the test tests nothing")
	}
	if st := s.Stats(); st.Failed != 0 {
		t.Errorf("%d interrupted reads are counted as failed", st.Failed)
	}
}

// shared waits for work of that long, which is done once for each offset, by whoever asks first.
func shared(long time.Duration, interrupted *atomic.Int64) memfs.Hook {
	var mu sync.Mutex
	done := map[int64]chan struct{}{}
	return func(ctx context.Context, off int64, _ int) error {
		mu.Lock()
		c, ok := done[off]
		if !ok {
			c = make(chan struct{})
			done[off] = c
			time.AfterFunc(long, func() { close(c) })
		}
		mu.Unlock()
		select {
		case <-c:
			return nil
		default:
		}
		select {
		case <-c:
			return nil
		case <-ctx.Done():
			interrupted.Add(1)
			return ctx.Err()
		}
	}
}

// TestInterruptedTooLate would catch a read that is done and thrown away because its caller was
// interrupted meanwhile.
func TestInterruptedTooLate(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, f := range map[string]memfs.File{
		"plain": {Data: noise(1000)}, "volatile": {Content: func() []byte { return noise(1000) }},
	} {
		n := &fileNode{s: &Server{log: slog.New(slog.DiscardHandler), ahead: newAheadReads(nil)}, g: newGeneration(0, nil), file: fileOf(t, f)}
		h, _, errno := n.Open(ctx, unix.O_RDONLY)
		if errno != 0 {
			t.Fatalf("%s: open: %v", name, errno)
		}
		result, errno := h.(*handle).Read(ctx, make([]byte, 4096), 100)
		if errno != 0 || result.Size() != 900 {
			t.Errorf("%s: %v, %v", name, result, errno)
		}
	}
}

// fileOf makes a file of a tree in memory.
func fileOf(t *testing.T, f memfs.File) vfs.File {
	t.Helper()
	node, err := vfs.Walk(t.Context(), memfs.New(map[string]memfs.File{"f": f}), "f")
	if err != nil {
		t.Fatal(err)
	}
	return node.(vfs.File)
}

// rogue is a file that breaks the contract of package vfs.
type rogue struct {
	read func(p []byte) (int, error)
}

func (r rogue) Attr() vfs.Attr { return vfs.Attr{Size: 2 << 20, Stored: 2 << 20} }

func (r rogue) ReadAt(_ context.Context, p []byte, _ int64) (int, error) { return r.read(p) }

// rogueDir holds such files.
type rogueDir map[string]vfs.Node

func (d rogueDir) Attr() vfs.Attr { return vfs.Attr{Dir: true} }

func (d rogueDir) Lookup(_ context.Context, name string) (vfs.Node, error) {
	switch node, ok := d[name]; {
	case name == "broken":
		return nil, vfs.ErrDamaged
	case name == "panics":
		panic("told to panic in a look-up")
	case !ok:
		return nil, fs.ErrNotExist
	default:
		return node, nil
	}
}

func (d rogueDir) List(context.Context) (vfs.Listing, error) { return nil, vfs.ErrDamaged }

// TestTreeAtFault would catch a tree whose faults end the process, hang a client, or reach a client
// as bytes: a short answer would be taken for the end of the file.
func TestTreeAtFault(t *testing.T) {
	log := &lines{}
	dir, _ := show(t, rogueDir{
		"short":   rogue{read: func(p []byte) (int, error) { return len(p) / 2, nil }},
		"eof":     rogue{read: func(p []byte) (int, error) { return len(p) / 2, io.EOF }},
		"none":    rogue{read: func(p []byte) (int, error) { return 0, nil }},
		"neither": neither{},
	}, Config{Log: slog.New(slog.NewTextHandler(log, nil))})
	for _, name := range []string{"short", "eof", "none"} {
		if _, err := preadFile(path(dir, "%s", name), make([]byte, 100_000), 0); !errors.Is(err, unix.EIO) {
			t.Errorf("%s: got %v, want EIO", name, err)
		}
		if !strings.Contains(log.String(), "path="+name) {
			t.Errorf("%s: the log does not name it", name)
		}
	}
	for _, name := range []string{"broken", "panics", "neither"} {
		if _, err := os.Stat(path(dir, "%s", name)); !errors.Is(err, unix.EIO) {
			t.Errorf("%s: stat: got %v, want EIO", name, err)
		}
	}
	f, err := os.Open(dir)
	if err != nil {
		t.Fatalf("the open of a directory fails: %v", err)
	}
	if _, err := f.ReadDir(-1); !errors.Is(err, unix.EIO) {
		t.Errorf("its listing: got %v, want EIO", err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

// neither is a node that is no file and no directory.
type neither struct{}

func (neither) Attr() vfs.Attr { return vfs.Attr{} }

// TestPanicIsLogged would catch a panic that leaves no trace of where it happened.
func TestPanicIsLogged(t *testing.T) {
	log := &lines{}
	dir, s := show(t, memfs.New(map[string]memfs.File{"f": {Data: noise(10), Before: memfs.Panic("told to")}}),
		Config{Log: slog.New(slog.NewTextHandler(log, nil))})
	if _, err := os.ReadFile(path(dir, "f")); !errors.Is(err, unix.EIO) {
		t.Errorf("got %v, want EIO", err)
	}
	if text := log.String(); !strings.Contains(text, "told to") || !strings.Contains(text, "TestPanicIsLogged.Panic") {
		t.Errorf("the log says %q", text)
	}
	if st := s.Stats(); st.Reads == 0 || st.Failed != st.Reads || st.Bytes != 0 {
		t.Errorf("stats: %+v", st)
	}
}

// TestStats would catch counters that lie.
func TestStats(t *testing.T) {
	dir, s := show(t, memfs.New(map[string]memfs.File{"big": {Data: noise(2 << 20)}}), Config{})
	f, err := os.Open(path(dir, "big"))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := f.ReadAt(make([]byte, 1<<20), 0); n != 1<<20 || err != nil {
		t.Fatal(n, err)
	}
	if st, want := s.Stats(), (Stats{Reads: 1, Bytes: 1 << 20, OpenFiles: 1}); st != want {
		t.Errorf("one read: %+v, want %+v", st, want)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	for i := 0; s.Stats().OpenFiles != 0; i++ {
		if i == 100 {
			t.Fatalf("after the close: %+v", s.Stats())
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestChangedSmallFile would catch old bytes from the page cache of a file that says it has changed.
func TestChangedSmallFile(t *testing.T) {
	var changed atomic.Bool
	verdict := func() error {
		if changed.Load() {
			return vfs.ErrChanged
		}
		return nil
	}
	data := noise(100_000)
	dir, s := show(t, memfs.New(map[string]memfs.File{"f": {
		Data: data, Changed: verdict,
		Before: func(context.Context, int64, int) error { return verdict() },
	}}), Config{})
	for range 3 {
		if got, err := os.ReadFile(path(dir, "f")); err != nil || !bytes.Equal(got, data) {
			t.Errorf("before: %d bytes, %v", len(got), err)
		}
	}
	if st := s.Stats(); st.Bytes != int64(len(data)) {
		t.Errorf("%d bytes were asked for; the page cache is not used", st.Bytes)
	}
	changed.Store(true)
	if _, err := os.ReadFile(path(dir, "f")); !errors.Is(err, unix.ESTALE) {
		t.Errorf("after: %v, want ESTALE", err)
	}
}
