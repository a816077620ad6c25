package catalogue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tesserafs/tesserafs/tilecache/source"
	"github.com/tesserafs/tesserafs/tilecache/source/memsource"
)

var archivedObjects = []string{"landmasks/v1/landmasks.parquet", v1Manifest}

// Catches: a second look that fetches again, or asks more than once whether an object is still the same;
// a changed object that is not noticed; copies that others may read.
func TestCopies(t *testing.T) {
	mem := archived(t)
	src := serve(mem)
	cfg := Config{Dir: filepath.Join(t.TempDir(), "new", "cache")}
	want := remoteOpen(t, mem, Config{})
	first := remoteOpen(t, src, cfg)
	if opened, reads := src.forget(); !reflect.DeepEqual(opened, archivedObjects) || reads != 2 {
		t.Errorf("the first look opened %v and read %d times", opened, reads)
	}
	second := remoteOpen(t, src, cfg)
	asked := slices.Sorted(slices.Values(src.revalidated))
	if opened, reads := src.forget(); opened != nil || reads != 0 || !reflect.DeepEqual(asked, archivedObjects) {
		t.Errorf("the second look asked after %v, opened %v and read %d times", asked, opened, reads)
	}
	if !first.Equal(want) || !second.Equal(want) {
		t.Error("through copies it is another catalogue")
	}
	if _, why := second.Datasets[0].Stale(); why != "" {
		t.Errorf("stale: %s", why)
	}
	mem.Put(v1Manifest, simpleManifest(t, tileRow(2025, 0.05, 0.05)))
	changed := remoteOpen(t, src, cfg)
	if opened, reads := src.forget(); reads != 1 || !slices.Equal(opened, []string{v1Manifest}) || changed.Equal(want) || !slices.Equal(changed.Datasets[0].Years(), []int{2025}) {
		t.Errorf("after a change: %d reads, years %v", reads, changed.Datasets[0].Years())
	}
	for _, path := range append(filesIn(t, cfg.Dir), cfg.Dir) {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm()&0o077 != 0 || strings.HasSuffix(path, ".tmp") {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
}

func filesIn(t testing.TB, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(dir + "/*")
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// copyIn is the path of the copy of an object.
func copyIn(dir string, src source.Source, name string) string {
	return (&copies{src: src, dir: dir}).place(name)
}

// Catches: a copy that is used though it was damaged, is of something else or of another version, a damaged
// one that keeps an archive from opening, or costs more than one fetch.
func TestDamagedCopies(t *testing.T) {
	mem := archived(t)
	want := remoteOpen(t, mem, Config{})
	other := serve(mem)
	other.name = "s3://another"
	for name, damage := range map[string]func(path string, data []byte) []byte{
		"a bit of its bytes": func(_ string, data []byte) []byte { data[copyHead+99] ^= 4; return data },
		"a bit of its last":  func(_ string, data []byte) []byte { data[len(data)-1] ^= 1; return data },
		"its time":           func(_ string, data []byte) []byte { return bytes.Replace(data, []byte("2023"), []byte("2022"), 1) },
		"its ETag":           func(_ string, data []byte) []byte { return bytes.Replace(data, []byte(`\"v`), []byte(`\"w`), 1) },
		"its size": func(_ string, data []byte) []byte {
			return bytes.Replace(data, []byte(`"size":`), []byte(`"size":1`), 1)
		},
		"cut short":         func(_ string, data []byte) []byte { return data[:len(data)-1] },
		"cut in the header": func(_ string, data []byte) []byte { return data[:100] },
		"empty":             func(_ string, data []byte) []byte { return nil },
		"too long":          func(_ string, data []byte) []byte { return append(data, 0) },
		"zeros":             func(_ string, data []byte) []byte { return make([]byte, len(data)) },
		"another format": func(_ string, data []byte) []byte {
			return bytes.Replace(data, []byte(`"format":1`), []byte(`"format":2`), 1)
		},
		"another's": func(_ string, data []byte) []byte {
			return bytes.Replace(data, []byte("s3://bucket/archive"), []byte("s3://bucket/brchive"), 1)
		},
		"a link": func(path string, data []byte) []byte {
			if err := os.Rename(path, path+".moved"); err != nil {
				t.Error(err)
			}
			if err := os.Symlink(path+".moved", path); err != nil {
				t.Error(err)
			}
			return data
		},
	} {
		src := serve(mem)
		cfg := Config{Dir: t.TempDir()}
		remoteOpen(t, src, cfg)
		src.forget()
		path := copyIn(cfg.Dir, src, v1Manifest)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if data = damage(path, data); name != "a link" {
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		// While the source cannot be reached, there is nothing right to use.
		src.set(func() { src.down = source.ErrUnavailable })
		if _, err := Open(t.Context(), src, cfg); !errors.Is(err, source.ErrUnavailable) {
			t.Errorf("%s, unreachable: %v", name, err)
		}
		src.set(func() { src.down = nil })
		src.forget()
		if c := remoteOpen(t, src, cfg); !c.Equal(want) {
			t.Errorf("%s: another catalogue", name)
		}
		if _, reads := src.forget(); reads != 1 {
			t.Errorf("%s: %d reads, want the one of fetching it", name, reads)
		}
		remoteOpen(t, src, cfg)
		if _, reads := src.forget(); reads != 0 {
			t.Errorf("%s: fetched again and again", name)
		}
	}
}

// Catches: bytes of another place in an object that is fetched in pieces, and around what opening brought
// along.
func TestPieces(t *testing.T) {
	random := rand.NewChaCha8([32]byte{1})
	for _, size := range []int{0, 1, 1000, pieceBytes - 1, pieceBytes, pieceBytes + 1, 2*pieceBytes + 5} {
		for _, prefix := range []int{0, 1000} {
			data := make([]byte, size)
			random.Read(data)
			src := serve(memsource.New(map[string][]byte{"object": data}))
			src.prefixs = prefix
			last := int64(0)
			cfg := Config{Dir: t.TempDir(), Fetched: func(_ string, done, total int64) {
				if last = max(last, done); total != int64(size) {
					t.Errorf("%d of %d, want of %d", done, total, size)
				}
			}}
			for range 2 { // fetched, and from the copy
				c := newOpener(src, cfg).copies
				a, err := c.open(t.Context(), "object")
				if err != nil {
					t.Fatal(err)
				}
				got := make([]byte, size)
				if _, err := a.obj.ReadAt(t.Context(), got, 0); err != nil || !bytes.Equal(got, data) {
					t.Errorf("%d bytes, a prefix of %d: other bytes, %v", size, prefix, err)
				}
				if n, err := a.obj.ReadAt(t.Context(), make([]byte, 2), int64(size)-1); err == nil {
					t.Errorf("%d bytes beyond the end", n)
				}
				if _, err := a.obj.ReadAt(t.Context(), make([]byte, 1), -1); !errors.Is(err, fs.ErrInvalid) {
					t.Errorf("before the beginning: %v", err)
				}
				c.close()
			}
			if last != int64(size) {
				t.Errorf("%d bytes were told of, want %d", last, size)
			}
		}
	}
}

// Catches: a stale list that is used without saying so, or not used while a source is down, or used though
// the source answered that it is no longer there or may not be read.
func TestStale(t *testing.T) {
	for name, test := range map[string]struct {
		err  error
		used bool
	}{
		"unavailable": {fmt.Errorf("after 3 tries: %w", source.ErrUnavailable), true},
		"transient":   {&source.Transient{Err: errors.New("503")}, true},
		"refused":     {&net.OpError{Op: "dial", Err: errors.New("connection refused")}, true},
		"no name":     {fmt.Errorf("get: %w", &net.DNSError{Err: "no such host", IsNotFound: true}), true},
		"too late":    {context.DeadlineExceeded, true},
		"forbidden":   {fmt.Errorf("403: %w", fs.ErrPermission), false},
		"both":        {errors.Join(source.ErrUnavailable, fs.ErrPermission), false},
		"not there":   {errNotThere, false},
		"neither":     {errors.Join(source.ErrUnavailable, errNotThere), false},
		"another":     {errors.New("answered 200 to a range"), false},
	} {
		src := serve(archived(t))
		var log logged
		cfg := Config{Dir: t.TempDir(), Log: log.logger()}
		if _, err := Open(t.Context(), src, cfg); err != nil {
			t.Fatal(err)
		}
		before := time.Now().Add(time.Second)
		want := remoteOpen(t, src, cfg)
		src.set(func() { src.down = test.err })
		c, err := Open(t.Context(), src, cfg)
		if !test.used {
			if !errors.Is(err, test.err) {
				t.Errorf("%s: %v, %v", name, c, err)
			}
			continue
		}
		if err != nil || !c.Equal(want) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		since, why := c.Datasets[0].Stale()
		if why != test.err.Error() || since.After(before) || time.Since(since) > time.Minute {
			t.Errorf("%s: stale since %v: %s", name, since, why)
		}
		if lines := log.warnings(); len(lines) != 3 || !strings.Contains(lines[1], "a copy is used") {
			t.Errorf("%s: logged %q", name, lines)
		}
		// Nothing was kept of another source.
		other := serve(memsource.New(nil))
		other.name, other.down = "s3://other", test.err
		if _, err := Open(t.Context(), other, cfg); !errors.Is(err, test.err) {
			t.Errorf("%s: of what was never seen: %v", name, err)
		}
		// Once it can be reached again it is not stale any more.
		src.set(func() { src.down = nil })
		if _, why := remoteOpen(t, src, cfg).Datasets[0].Stale(); why != "" {
			t.Errorf("%s: still stale: %s", name, why)
		}
	}
}

// Catches: that the source said that there is no registry forgotten when it cannot be asked, which would make
// another grid of the tiles, or keep the archive from opening.
func TestStaleAbsence(t *testing.T) {
	mem := archived(t)
	mem.Remove("landmasks/v1/landmasks.parquet")
	mem.Put("landmasks/v1/grid_0.05_0.05.tiff", nil)
	src := serve(mem)
	var log logged
	cfg := Config{Dir: t.TempDir(), Log: log.logger()}
	remoteOpen(t, src, cfg)
	src.set(func() { src.down = source.ErrUnavailable })
	c := remoteOpen(t, src, cfg)
	if d := c.Datasets[0]; d.LandmaskRegistry() || d.Len() != 3 {
		t.Errorf("%d tiles, registry %v", d.Len(), d.LandmaskRegistry())
	}
	if !strings.Contains(log.String(), "cannot be listed") {
		t.Errorf("logged %s", log.String())
	}
	cfg.Offline = true
	remoteOpen(t, src, cfg)
	// Whoever does not answer has not said that anything is not there.
	src.set(func() { src.down = errors.Join(source.ErrUnavailable, errNotThere) })
	a := newOpener(src, Config{Dir: t.TempDir()}).copies
	if _, err := a.open(t.Context(), v1Manifest); !errors.Is(err, source.ErrUnavailable) {
		t.Errorf("no answer: %v", err)
	}
}

// Catches: a request made offline, or an archive shown that nobody knows.
func TestOffline(t *testing.T) {
	for _, unlisted := range []bool{false, true} {
		src := serve(archived(t))
		src.unlisted = unlisted
		cfg := Config{Dir: t.TempDir()}
		want := remoteOpen(t, src, cfg)
		src.forget()
		cfg.Offline = true
		c := remoteOpen(t, src, cfg)
		if opened, reads := src.forget(); opened != nil || reads != 0 || src.listed != 0 {
			t.Errorf("asked for %v, %d reads, %d listings", opened, reads, src.listed)
		}
		if _, why := c.Datasets[0].Stale(); !c.Equal(want) || why != offlineWhy {
			t.Errorf("another catalogue, or stale: %q", why)
		}
		for _, cfg := range []Config{{Dir: t.TempDir(), Offline: true}, {Offline: true}} {
			_, err := Open(t.Context(), src, cfg)
			if !errors.Is(err, source.ErrUnavailable) || !strings.Contains(err.Error(), "offline") {
				t.Errorf("of what is not kept: %v", err)
			}
		}
		if opened, _ := src.forget(); opened != nil {
			t.Errorf("asked for %v", opened)
		}
	}
	scanned := memsource.New(nil)
	putTile(scanned, "npy/v1/2024", "grid_0.05_0.05")
	src := serve(scanned)
	cfg := Config{Dir: t.TempDir()}
	remoteOpen(t, src, cfg)
	src.forget()
	cfg.Offline = true
	if _, err := Open(t.Context(), src, cfg); !errors.Is(err, source.ErrUnavailable) || !strings.Contains(err.Error(), "cannot be scanned offline") || src.listed != 0 {
		t.Errorf("a scan offline: %v, %d listings", err, src.listed)
	}
}

// Catches: a fetch that breaks in the middle and leaves half a file in place of a whole one; an object that
// is replaced meanwhile put together from two.
func TestBrokenFetch(t *testing.T) {
	mem := archived(t)
	src := serve(mem)
	cfg := Config{Dir: t.TempDir()}
	want := remoteOpen(t, src, cfg)
	src.forget()
	mem.Put(v1Manifest, simpleManifest(t, tileRow(2025, 0.05, 0.05)))
	src.set(func() { src.reads = &source.Transient{Err: errors.New("reset")} })
	c := remoteOpen(t, src, cfg)
	if _, why := c.Datasets[0].Stale(); !c.Equal(want) || why != "reset" {
		t.Errorf("the earlier copy was not used: %s", why)
	}
	// Replaced before it was read.
	src.set(func() {
		src.reads, src.read = nil, 0
		src.before = func(read int) {
			if read == 1 {
				mem.Put(v1Manifest, simpleManifest(t, tileRow(2026, 0.05, 0.05)))
			}
		}
	})
	c = remoteOpen(t, src, cfg)
	if years := c.Datasets[0].Years(); !slices.Equal(years, []int{2026}) {
		t.Errorf("years %v", years)
	}
	// Replaced each time.
	src.set(func() {
		src.before = func(int) { mem.Put(v1Manifest, simpleManifest(t, tileRow(2027, 0.05, 0.05))) }
	})
	mem.Put(v1Manifest, simpleManifest(t))
	if _, err := Open(t.Context(), src, cfg); !errors.Is(err, source.ErrChanged) {
		t.Errorf("replaced again and again: %v", err)
	}
	src.set(func() { src.before = nil })
	// A context that ends is no reason to use what is old.
	mem.Put(v1Manifest, simpleManifest(t, tileRow(2028, 0.05, 0.05)))
	ctx, cancel := context.WithCancel(t.Context())
	src.set(func() { src.before = func(int) { cancel() } })
	if _, err := Open(ctx, src, cfg); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	for _, path := range filesIn(t, cfg.Dir) {
		if strings.HasSuffix(path, ".tmp") {
			t.Errorf("%s was left", path)
		}
	}
}

// Catches: a fetch for each of several who open an archive at once, or one that sees what another is
// writing. Whether they are of one process makes no difference to the locks.
func TestOpenersAtOnce(t *testing.T) {
	mem := archived(t)
	src := serve(mem)
	dir := t.TempDir()
	// What a process left that was killed while it fetched.
	leftover := copyIn(dir, src, v1Manifest) + ".tmp"
	if err := os.WriteFile(leftover, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	want := remoteOpen(t, mem, Config{})
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			c, err := Open(t.Context(), src, Config{Dir: dir})
			if err != nil || !c.Equal(want) {
				t.Errorf("%v", err)
			}
		})
	}
	all.Wait()
	if _, reads := src.forget(); reads != 2 {
		t.Errorf("%d reads, want one for each object", reads)
	}
	if _, err := os.Stat(leftover); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a leftover: %v", err)
	}
}

// Catches: waiting for another process that cannot be interrupted.
func TestLockWait(t *testing.T) {
	src := serve(archived(t))
	c := newOpener(src, Config{Dir: t.TempDir()}).copies
	unlock, _, err := c.lock(t.Context(), v1Manifest)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := Open(ctx, src, Config{Dir: c.dir}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while it is locked: %v", err)
	}
	unlock()
	remoteOpen(t, src, Config{Dir: c.dir})
}

// Catches: an archive that cannot be opened because this machine has no room for copies.
func TestNoCopyKept(t *testing.T) {
	mem := archived(t)
	want := remoteOpen(t, mem, Config{})
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	blocked := t.TempDir()
	src := serve(mem)
	if err := os.MkdirAll(copyIn(blocked, src, v1Manifest)+"/in/the/way", 0o700); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{file, blocked, "/proc/no/such"} {
		var log logged
		if c := remoteOpen(t, src, Config{Dir: dir, Log: log.logger()}); !c.Equal(want) {
			t.Errorf("%s: another catalogue", dir)
		}
		if !strings.Contains(log.String(), "no copy can be kept") {
			t.Errorf("%s: logged %s", dir, log.String())
		}
	}
}

// Catches: a file fetched, or memory given, because a server says that it is so large; an ETag that is
// longer than what is kept of it.
func TestServerClaims(t *testing.T) {
	for _, size := range []int64{maxFile + 1, 1 << 62, -1} {
		src := serve(archived(t))
		src.size = size
		var why *RefusedError
		if _, err := Open(t.Context(), src, Config{Dir: t.TempDir()}); !errors.As(err, &why) || why.Object != v1Manifest || !strings.Contains(err.Error(), "more than is read") {
			t.Errorf("%d bytes: %v", size, err)
		}
		if _, reads := src.forget(); reads != 0 {
			t.Errorf("%d bytes: %d reads", size, reads)
		}
	}
	src := serve(archived(t))
	src.size = 3 << 30 // which it does not have
	if _, err := Open(t.Context(), src, Config{Dir: t.TempDir()}); err == nil {
		t.Error("opened with a size that it does not have")
	}
	if src.bytes > fetchers*pieceBytes+pieceBytes {
		t.Errorf("%d bytes were asked for after the first were not there", src.bytes)
	}
	h := copyHeader{ETag: strings.Repeat("x", copyHead)}
	if _, err := h.page(nil); err == nil {
		t.Error("a header longer than its page")
	}
}
