package tilecache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/tesserafs/tesserafs/tilecache/source"
	"github.com/tesserafs/tesserafs/tilecache/source/localdir"
	"github.com/tesserafs/tesserafs/tilecache/source/memsource"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newCache is a cache that the test closes, and at whose end every object must be closed.
func newCache(t testing.TB, src source.Source, cfg Config) *Cache {
	t.Helper()
	c := New(src, cfg)
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if s := c.Stats(); s.OpenObjects != 0 {
			t.Errorf("left after Close: %+v", s)
		}
	})
	return c
}

func mustOpen(t testing.TB, c *Cache, name string) *Object {
	t.Helper()
	o, err := c.Open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// names are n names of objects with 8 bytes each.
func names(n int) ([]string, map[string][]byte) {
	list, objects := make([]string, n), make(map[string][]byte)
	for i := range list {
		list[i] = fmt.Sprintf("2024/grid_%d.npy", i)
		objects[list[i]] = fmt.Appendf(nil, "%08d", i)
	}
	return list, objects
}

// Catches objects that are opened more often than needed, kept beyond the bound, or closed in use.
func TestKeep(t *testing.T) {
	list, objects := names(10)
	src := memsource.New(objects)
	c := newCache(t, src, Config{OpenObjects: 3})
	held := mustOpen(t, c, list[0])
	for range 2 {
		for _, name := range list[1:3] {
			mustOpen(t, c, name).Release()
		}
	}
	if s := c.Stats(); s.Opens != 3 || s.OpenObjects != 3 {
		t.Errorf("three objects opened twice: %+v", s)
	}
	for _, name := range list {
		mustOpen(t, c, name).Release()
	}
	if s := c.Stats(); s.OpenObjects != 4 { // three, and the one held
		t.Errorf("ten objects, one held: %+v", s)
	}
	p := make([]byte, 8)
	if err := held.ReadAt(t.Context(), p, 0); err != nil || string(p) != "00000000" {
		t.Errorf("an object that left the cache reads %q, %v", p, err)
	}
	if held.Name() != list[0] || held.Info().Size != 8 {
		t.Errorf("it is %s, %+v", held.Name(), held.Info())
	}
	held.Release()
	if s := c.Stats(); s.OpenObjects != 3 || s.BytesRead != 8 {
		t.Errorf("after its release: %+v", s)
	}
}

// Catches a bound that the process may not keep, and zero taken for a bound.
func TestConfig(t *testing.T) {
	for want, cfg := range map[int]Config{512: {}, 7: {OpenObjects: 7}} {
		if c := newCache(t, memsource.New(nil), cfg); c.openObjects != want {
			t.Errorf("%+v: %d objects", cfg, c.openObjects)
		}
	}
	if c := newCache(t, memsource.New(nil), Config{OpenObjects: 1 << 40}); c.openObjects > 1<<22 {
		t.Errorf("%d objects, whatever the limit of the process", c.openObjects)
	}
}

// Catches one open for each who asks, and references that a shared open miscounts.
func TestSharedOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := memsource.New(map[string][]byte{"a": []byte("tile")})
		gate := make(chan struct{})
		src.Delay("a", gate)
		c := newCache(t, src, Config{})
		var asking sync.WaitGroup
		for range 50 {
			asking.Go(func() {
				o, err := c.Open(t.Context(), "a")
				if err != nil {
					t.Error(err)
					return
				}
				p := make([]byte, 4)
				if err := o.ReadAt(t.Context(), p, 0); err != nil || string(p) != "tile" {
					t.Errorf("%q, %v", p, err)
				}
				o.Release()
			})
		}
		synctest.Wait()
		close(gate)
		asking.Wait()
		if n := src.Opens("a"); n != 1 {
			t.Errorf("%d opens", n)
		}
	})
}

// Catches a leader whose leaving strands or fails the others, a caller who cannot leave, and an open
// that is thrown away because nobody waits.
func TestLeaving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := memsource.New(map[string][]byte{"a": []byte("tile")})
		gate := make(chan struct{})
		src.Delay("a", gate)
		c := newCache(t, src, Config{})
		results := make(chan error, 3)
		ask := func(ctx context.Context) {
			o, err := c.Open(ctx, "a")
			if err == nil {
				o.Release()
			}
			results <- err
		}
		leader, leave := context.WithCancel(t.Context())
		go ask(leader)
		synctest.Wait()
		go ask(t.Context())
		timed, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		go ask(timed)
		synctest.Wait()
		leave()
		if err := <-results; !errors.Is(err, context.Canceled) {
			t.Errorf("the one who left: %v", err)
		}
		if err := <-results; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the one who ran out of time: %v", err)
		}
		close(gate)
		if err := <-results; err != nil {
			t.Errorf("the one who stayed: %v", err)
		}

		c.Forget()
		gate = make(chan struct{})
		src.Delay("a", gate)
		only, leave := context.WithCancel(t.Context())
		go ask(only)
		synctest.Wait()
		leave()
		<-results
		close(gate)
		synctest.Wait()
		if s := c.Stats(); s.OpenObjects != 1 || s.Opens != 2 {
			t.Errorf("an open nobody waits for is not kept: %+v", s)
		}
	})
	c := newCache(t, memsource.New(map[string][]byte{"a": {1}}), Config{})
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Open(ended, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("open with an ended context: %v", err)
	}
}

// Catches errors that lose what they are, or that are remembered.
func TestErrors(t *testing.T) {
	src := memsource.New(map[string][]byte{"a": {1, 2, 3}})
	c := newCache(t, src, Config{})
	if _, err := c.Open(t.Context(), "none"); !errors.Is(err, fs.ErrNotExist) || errors.Is(err, source.ErrChanged) {
		t.Errorf("never there: %v, want fs.ErrNotExist alone", err)
	}
	boom := errors.New("boom")
	src.Fail("a", boom)
	if _, err := c.Open(t.Context(), "a"); !errors.Is(err, boom) {
		t.Errorf("failing: %v", err)
	}
	src.Fail("a", nil)
	o := mustOpen(t, c, "a")
	defer o.Release()
	if err := o.ReadAt(t.Context(), make([]byte, 2), 2); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("beyond the end: %v", err)
	}
	src.Fail("a", boom)
	if err := o.ReadAt(t.Context(), make([]byte, 1), 0); !errors.Is(err, boom) {
		t.Errorf("failing read: %v", err)
	}
	if err := o.Check(t.Context()); !errors.Is(err, boom) {
		t.Errorf("failing check: %v", err)
	}
}

// shortSource gives fewer bytes than asked for and no error, against the contract, or panics.
type shortSource struct{ source.Source }

func (s shortSource) Open(ctx context.Context, name string) (source.Object, error) {
	if name == "panic" {
		panic("a fault of the source")
	}
	o, err := s.Source.Open(ctx, name)
	return shortObject{o}, err
}

type shortObject struct{ source.Object }

func (o shortObject) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	return o.Object.ReadAt(ctx, p[:len(p)-1], off)
}

// Catches bytes that were never read handed on as read, and a panic that ends the process.
func TestFaultySource(t *testing.T) {
	c := newCache(t, shortSource{memsource.New(map[string][]byte{"a": {1, 2, 3}})}, Config{})
	o := mustOpen(t, c, "a")
	defer o.Release()
	if err := o.ReadAt(t.Context(), make([]byte, 3), 0); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a short read: %v", err)
	}
	if _, err := c.Open(t.Context(), "panic"); err == nil || !strings.Contains(err.Error(), "a fault of the source") {
		t.Errorf("a panic: %v", err)
	}
}

// Catches an object that comes back as another, after it was closed or while it is held, and one
// that stays refused after Forget.
func TestIdentity(t *testing.T) {
	for _, change := range []struct {
		name string
		do   func(*memsource.Source)
		gone bool
	}{
		{"same size", func(s *memsource.Source) { s.Put("a", []byte("bbbb")) }, false},
		{"other size", func(s *memsource.Source) { s.Put("a", []byte("bbbbb")) }, false},
		{"deleted", func(s *memsource.Source) { s.Remove("a") }, true},
	} {
		t.Run(change.name, func(t *testing.T) {
			src := memsource.New(map[string][]byte{"a": []byte("aaaa"), "b": {1}})
			c := newCache(t, src, Config{OpenObjects: 1})
			held := mustOpen(t, c, "a")
			mustOpen(t, c, "b").Release() // a leaves the cache
			change.do(src)
			refused := func() {
				t.Helper()
				_, err := c.Open(t.Context(), "a")
				if !errors.Is(err, source.ErrChanged) || errors.Is(err, fs.ErrNotExist) != change.gone || !strings.Contains(err.Error(), "a") {
					t.Errorf("open: %v", err)
				}
			}
			refused()
			refused()
			if err := held.Check(t.Context()); !errors.Is(err, source.ErrChanged) {
				t.Errorf("check: %v", err)
			}
			if err := held.ReadAt(t.Context(), make([]byte, 1), 0); !errors.Is(err, source.ErrChanged) {
				t.Errorf("read: %v", err)
			}
			held.Release()
			refused()
			c.Forget()
			o, err := c.Open(t.Context(), "a")
			if change.gone {
				if !errors.Is(err, fs.ErrNotExist) || errors.Is(err, source.ErrChanged) {
					t.Errorf("open after Forget: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatalf("open after Forget: %v", err)
			}
			o.Release()
		})
	}
}

// Catches an object found changed that the cache goes on handing out: the state that was first seen
// may come back, and is then opened afresh.
func TestChangedLeaves(t *testing.T) {
	src := memsource.New(map[string][]byte{"a": {1}})
	c := newCache(t, src, Config{})
	o := mustOpen(t, c, "a")
	src.Put("a", []byte{2})
	if err := o.Check(t.Context()); !errors.Is(err, source.ErrChanged) {
		t.Fatal(err)
	}
	if _, err := c.Open(t.Context(), "a"); !errors.Is(err, source.ErrChanged) {
		t.Errorf("open: %v", err)
	}
	if n := src.Opens("a"); n != 2 {
		t.Errorf("%d opens, want 2", n)
	}
	o.Release()
	if n := c.Stats().OpenObjects; n != 0 {
		t.Errorf("%d objects open", n)
	}
}

// Catches an open that began before Forget and is remembered after it.
func TestForgetDuringOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := memsource.New(map[string][]byte{"a": {1}})
		gate := make(chan struct{})
		src.Delay("a", gate)
		c := newCache(t, src, Config{})
		before := make(chan *Object)
		go func() {
			o, err := c.Open(t.Context(), "a")
			if err != nil {
				t.Error(err)
			}
			before <- o
		}()
		synctest.Wait()
		c.Forget()
		close(gate)
		held := <-before
		src.Put("a", []byte{1, 2})
		now := mustOpen(t, c, "a")
		if size := now.Info().Size; size != 2 {
			t.Errorf("size %d: opened before Forget, kept after it", size)
		}
		now.Release()
		held.Release()
	})
}

// lingering is a source that takes a second to end an open that is cancelled.
type lingering struct {
	source.Source
	ended atomic.Bool
}

func (l *lingering) Open(ctx context.Context, name string) (source.Object, error) {
	o, err := l.Source.Open(ctx, name)
	if err != nil {
		time.Sleep(time.Second)
		l.ended.Store(true)
	}
	return o, err
}

// Catches a Close that leaves opens running, that closes what is in use, or after which objects
// open.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := memsource.New(map[string][]byte{"a": {1}, "slow": {2}})
		src.Delay("slow", make(chan struct{}))
		slow := &lingering{Source: src}
		c := New(slow, Config{})
		held := mustOpen(t, c, "a")
		waiting := make(chan error, 1)
		go func() { _, err := c.Open(t.Context(), "slow"); waiting <- err }()
		synctest.Wait()
		for range 2 {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
			if !slow.ended.Load() {
				t.Error("an open is still under way")
			}
		}
		if err := <-waiting; !errors.Is(err, fs.ErrClosed) {
			t.Errorf("open under way: %v", err)
		}
		if _, err := c.Open(t.Context(), "a"); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("open after Close: %v", err)
		}
		if err := held.ReadAt(t.Context(), make([]byte, 1), 0); err != nil {
			t.Errorf("an object in use: %v", err)
		}
		held.Release()
		if n := c.Stats().OpenObjects; n != 0 {
			t.Errorf("%d objects open", n)
		}
		defer func() {
			if recover() == nil {
				t.Error("one release too many goes unnoticed")
			}
		}()
		held.Release()
	})
}

// Catches files that stay open: more than are kept and in use, at any moment.
func TestOpenFilesAreBounded(t *testing.T) {
	list, objects := names(300)
	src := newDir(t, objects)
	c := newCache(t, src, Config{OpenObjects: 20})
	base := openFiles(t)
	var held []*Object
	most := 0
	for i, name := range append(list, list...) {
		held = append(held, mustOpen(t, c, name))
		if len(held) > 10 {
			held[0].Release()
			held = held[1:]
		}
		if i%25 == 0 {
			most = max(most, openFiles(t)-base)
		}
	}
	if most > 20+10 || most < 20 {
		t.Errorf("%d files open, for 20 kept and 10 held", most)
	}
	for _, o := range held {
		o.Release()
	}
	if n := openFiles(t) - base; n != 20 {
		t.Errorf("%d files open, for 20 kept", n)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}

// newDir is a directory of these files.
func newDir(t testing.TB, objects map[string][]byte) *localdir.Source {
	t.Helper()
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for name, data := range objects {
		if i := strings.LastIndexByte(name, '/'); i > 0 {
			if err := root.MkdirAll(name[:i], 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := root.WriteFile(name, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	src, err := localdir.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return src
}

// Catches races between opening, evicting, dropping, forgetting and releasing. (Run with -race.)
func TestConcurrent(t *testing.T) {
	list, objects := names(12)
	src := memsource.New(objects)
	c := newCache(t, src, Config{OpenObjects: 3})
	var busy sync.WaitGroup
	for worker := range 8 {
		busy.Go(func() {
			for i := range 500 {
				name := list[(i*7+worker*5)%len(list)]
				if worker == 0 && i%50 == 0 {
					src.Put(name, objects[name])
				}
				if worker == 1 && i%40 == 0 {
					c.Forget()
				}
				ctx, cancel := context.WithCancel(t.Context())
				if i%9 == 0 {
					go cancel()
				}
				o, err := c.Open(ctx, name)
				if err == nil {
					p := make([]byte, 8)
					if err = o.ReadAt(ctx, p, 0); err == nil && !bytes.Equal(p, objects[name]) {
						t.Errorf("%s reads %q", name, p)
					}
					o.Release()
				}
				if err != nil && !errors.Is(err, source.ErrChanged) && !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
				cancel()
			}
		})
	}
	busy.Wait()
	c.opening.Wait() // for opens that everyone left
	if n := c.Stats().OpenObjects; n > 3 {
		t.Errorf("%d objects open", n)
	}
}
