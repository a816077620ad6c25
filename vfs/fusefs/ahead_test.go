package fusefs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tesserafs/tesserafs/vfs"
	"github.com/tesserafs/tesserafs/vfs/memfs"
)

// twoProcessors lets files be read ahead on a machine of one.
func twoProcessors(t *testing.T) {
	was := runtime.GOMAXPROCS(max(2, runtime.GOMAXPROCS(0)))
	t.Cleanup(func() { runtime.GOMAXPROCS(was) })
}

// asked counts the reads that a tree is asked for, by offset.
type asked struct {
	mu sync.Mutex
	at map[int64]int
}

func (a *asked) hook(_ context.Context, off int64, _ int) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.at == nil {
		a.at = map[int64]int{}
	}
	a.at[off]++
	return nil
}

func (a *asked) times(off int64) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.at[off]
}

// buffersBack waits until nothing is read ahead and nothing waits to be asked for.
func buffersBack(t *testing.T, s *Server) {
	t.Helper()
	until(t, "buffers given back", func() bool {
		s.ahead.mu.Lock()
		defer s.ahead.mu.Unlock()
		return len(s.ahead.buffers) == aheadBuffers
	})
}

// TestAhead would catch bytes of another place, parts that are read twice or beyond the end, a next part
// that is never read ahead, or is for readers who jump; and buffers that are lost.
func TestAhead(t *testing.T) {
	twoProcessors(t)
	data := noise(5<<20 + 4097)
	var seen asked
	dir, s := show(t, memfs.New(map[string]memfs.File{"f": {Data: data, Before: seen.hook}}), Config{})
	f, err := os.Open(path(dir, "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got := make([]byte, maxRead)
	if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, data[:maxRead]) {
		t.Fatalf("the first MiB differs, or %v", err)
	}
	until(t, "reading ahead", func() bool { return seen.times(maxRead) == 1 })
	got, err = io.ReadAll(f)
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("%d bytes that may differ, %v", len(got), err)
	}
	if seen.times(int64(len(data))) != 0 {
		t.Error("something was read beyond the end")
	}
	// From here on nothing is what comes after what came before.
	for _, off := range []int64{3 << 20, 1 << 20, 4<<20 + 1, 2 << 20} {
		before := seen.times(off + maxRead)
		got := make([]byte, maxRead)
		if _, err := f.ReadAt(got, off); err != nil || !bytes.Equal(got, data[off:off+maxRead]) {
			t.Fatalf("at %d: bytes differ, or %v", off, err)
		}
		buffersBack(t, s)
		if seen.times(off+maxRead) != before {
			t.Errorf("after a jump to %d, what comes next was read", off)
		}
	}
}

// TestAheadOfShorterReads would catch what was read ahead being given to a request for more or for less
// of it than it is, or in the wrong place of it.
func TestAheadOfShorterReads(t *testing.T) {
	twoProcessors(t)
	data := noise(6 << 20)
	dir, s := show(t, memfs.New(map[string]memfs.File{"f": {Data: data}}), Config{})
	for _, next := range []struct{ off, n int }{{maxRead, 10}, {maxRead, maxRead}, {maxRead + 1, maxRead}, {maxRead, 3 * maxRead}, {0, maxRead}, {5 << 20, maxRead}} {
		f, err := os.Open(path(dir, "f"))
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range []struct{ off, n int }{{0, maxRead}, next, {next.off + next.n, 100}} {
			got := make([]byte, min(r.n, len(data)-r.off))
			if _, err := f.ReadAt(got, int64(r.off)); len(got) > 0 && err != nil || !bytes.Equal(got, data[r.off:r.off+len(got)]) {
				t.Errorf("%+v after %+v: bytes differ, or %v", r, next, err)
			}
		}
		f.Close()
	}
	buffersBack(t, s)
}

// TestAheadOfAChange would catch bytes that were read ahead, waited, and are given although the file has
// changed since.
func TestAheadOfAChange(t *testing.T) {
	twoProcessors(t)
	var seen asked
	var changed atomic.Bool
	file := memfs.File{Data: noise(4 << 20), Changed: func() error {
		if changed.Load() {
			return vfs.ErrChanged
		}
		return nil
	}}
	file.Before = func(ctx context.Context, off int64, n int) error {
		if changed.Load() {
			return vfs.ErrChanged
		}
		return seen.hook(ctx, off, n)
	}
	dir, s := show(t, memfs.New(map[string]memfs.File{"f": file}), Config{})
	f, err := os.Open(path(dir, "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.ReadFull(f, make([]byte, maxRead)); err != nil {
		t.Fatal(err)
	}
	until(t, "reading ahead", func() bool { return seen.times(maxRead) == 1 })
	time.Sleep(2 * maxUnlooked)
	changed.Store(true)
	if n, err := io.ReadFull(f, make([]byte, maxRead)); !errors.Is(err, unix.ESTALE) {
		t.Errorf("%d bytes, %v after a change", n, err)
	}
	buffersBack(t, s)
}

// TestAheadFails would catch a failure or a panic ahead of a reader that ends the process, is told to a
// reader who did not ask, or hides that the bytes can be read by now.
func TestAheadFails(t *testing.T) {
	twoProcessors(t)
	data := noise(3 << 20)
	for name, fail := range map[string]func() error{
		"error": func() error { return vfs.ErrDamaged },
		"panic": func() error { panic("told to") },
	} {
		var tries atomic.Int64
		var log lines
		dir, s := show(t, memfs.New(map[string]memfs.File{"f": {Data: data, Before: func(_ context.Context, off int64, _ int) error {
			if off == maxRead && tries.Add(1) == 1 {
				return fail()
			}
			return nil
		}}}), Config{Log: slog.New(slog.NewTextHandler(&log, nil))})
		f, err := os.Open(path(dir, "f"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(f, make([]byte, maxRead)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		until(t, "reading ahead", func() bool { return tries.Load() == 1 })
		time.Sleep(2 * maxUnlooked)
		rest := make([]byte, maxRead)
		if _, err := io.ReadFull(f, rest); err != nil || !bytes.Equal(rest, data[maxRead:2*maxRead]) {
			t.Errorf("%s: the reader's own read gives %v, or other bytes", name, err)
		}
		f.Close()
		buffersBack(t, s)
		if panicked := strings.Contains(log.String(), "panic"); panicked != (name == "panic") || s.Stats().Failed != 0 {
			t.Errorf("%s: %+v, log %s", name, s.Stats(), log.String())
		}
	}
}

// TestAheadUnasked would catch buffers that readers keep who stop in the middle, and an unmount that
// waits for a read nobody asked for.
func TestAheadUnasked(t *testing.T) {
	twoProcessors(t)
	var held atomic.Int64
	dir, s := show(t, memfs.New(map[string]memfs.File{
		"f": {Data: noise(3 << 20)},
		"held": {Data: noise(3 << 20), Before: func(ctx context.Context, off int64, _ int) error {
			if off < maxRead {
				return nil
			}
			held.Add(1)
			<-ctx.Done()
			return ctx.Err()
		}},
	}), Config{})
	for range aheadBuffers + 3 {
		f, err := os.Open(path(dir, "f"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := io.ReadFull(f, make([]byte, maxRead)); err != nil {
			t.Fatal(err)
		}
	}
	buffersBack(t, s) // although the files are open
	f, err := os.Open(path(dir, "held"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(f, make([]byte, maxRead)); err != nil {
		t.Fatal(err)
	}
	until(t, "reading ahead", func() bool { return held.Load() == 1 })
	f.Close()
	buffersBack(t, s)
}

// TestAheadCrowd would catch a buffer that is filled for one reader while the kernel still takes the reply to
// another from it. The race detector sees it each time, this test by itself hardly ever.
func TestAheadCrowd(t *testing.T) {
	twoProcessors(t)
	const readers, size = 4, 16 << 20
	files := map[string]memfs.File{}
	for i := range readers {
		files[fmt.Sprint(i)] = memfs.File{Data: bytes.Repeat([]byte{byte(i + 1)}, size)}
	}
	dir, s := show(t, memfs.New(files), Config{})
	var crowd sync.WaitGroup
	for i := range readers {
		crowd.Go(func() {
			want := files[fmt.Sprint(i)].Data
			for range 10 {
				if got, err := os.ReadFile(path(dir, "%d", i)); err != nil || !bytes.Equal(got, want) {
					t.Errorf("file %d: %d bytes, %v, or another's", i, len(got), err)
				}
			}
		})
	}
	crowd.Wait()
	buffersBack(t, s)
}
