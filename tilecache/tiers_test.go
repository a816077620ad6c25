package tilecache

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tesserafs/tesserafs/tilecache/source"
	"github.com/tesserafs/tesserafs/tilecache/source/memsource"
)

// Catches pages that do not outlive the process, a state that was not asked for again by the next one,
// and pages that cost a request although they are on disk.
func TestNextProcessReadsFromDisk(t *testing.T) {
	dir := t.TempDir()
	data := noise(3<<20+77, 1)
	src := newRemote(map[string][]byte{"a": data})
	for process, want := range []struct{ opens, requests int64 }{{1, 1}, {1, 0}, {1, 0}} {
		c := New(src, Config{Memory: 32 << 20, Disk: newDisk(t, dir), Pace: onePace})
		before := src.requests.Load()
		o := mustOpen(t, c, "a")
		for range 2 {
			if !bytes.Equal(readAt(t, o, 0, len(data)), data) {
				t.Error("other bytes")
			}
		}
		s := c.Stats()
		if n := src.requests.Load() - before; s.Opens != want.opens || process > 0 && n != want.requests || process == 0 && n == 0 {
			t.Errorf("process %d: %d requests, %+v", process, n, s)
		}
		// All but the prefix, each time.
		if n := pagesIn(int64(len(data))) - 2; process > 0 && (s.DiskHits != 2*n || s.MemoryPages != 2) {
			t.Errorf("%d pages came from disk, %d are in memory", s.DiskHits, s.MemoryPages)
		}
		o.Release()
		if err := c.Close(); err != nil { // writes what waits
			t.Error(err)
		}
	}
	// Another state under the same name has no page on disk.
	other := noise(len(data), 2)
	src.Put("a", other)
	c := newPaged(t, src, Config{Disk: newDisk(t, dir)})
	o := mustOpen(t, c, "a")
	defer o.Release()
	if !bytes.Equal(readAt(t, o, 0, len(other)), other) {
		t.Error("bytes of the state before")
	}
}

func onePace() source.Pace { return source.Pace{Latency: 1e6, Bandwidth: 1e9, Connections: 4} }

// damage flips a byte of each page kept below a directory.
func damage(t *testing.T, dir string) {
	t.Helper()
	if err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || strings.HasSuffix(path, "total") {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for i := pageSize + 5; i < len(b); i += pageSize {
			b[i] ^= 1
		}
		return os.WriteFile(path, b, 0o600)
	}); err != nil {
		t.Fatal(err)
	}
}

// Catches a damaged cache that shows, or that is not repaired by reading.
func TestDamagedDiskCostsAFetch(t *testing.T) {
	dir := t.TempDir()
	data := noise(2<<20, 1)
	src := newRemote(map[string][]byte{"a": data})
	look := func() Stats {
		c := New(src, Config{Memory: 32 << 20, Disk: newDisk(t, dir)})
		o := mustOpen(t, c, "a")
		if !bytes.Equal(readAt(t, o, 0, len(data)), data) {
			t.Error("other bytes")
		}
		o.Release()
		s := c.Stats()
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		return s
	}
	look()
	damage(t, dir)
	if s := look(); s.DiskHits != 0 || s.BytesFetched == 0 {
		t.Errorf("with every page damaged: %+v", s)
	}
	if s := look(); s.SourcePages != 0 {
		t.Errorf("afterwards: %+v", s)
	}
}

// keptOnDisk is a source with an object "a", and a directory in which a cache has kept all of it.
func keptOnDisk(t *testing.T) (src *remote, data []byte, dir string) {
	t.Helper()
	dir, data = t.TempDir(), noise(3<<20+77, 1)
	src = newRemote(map[string][]byte{"a": data})
	c := New(src, Config{Memory: 32 << 20, Disk: newDisk(t, dir)})
	o := mustOpen(t, c, "a")
	readAt(t, o, 0, len(data))
	o.Release()
	if err := c.Close(); err != nil { // writes what waits
		t.Fatal(err)
	}
	return src, data, dir
}

// Catches pages on disk that take memory as well, and ranges of one read that get each other's bytes.
func TestPartsOfPagesFromDisk(t *testing.T) {
	src, data, dir := keptOnDisk(t)
	before := src.requests.Load()
	c := newPaged(t, src, Config{Memory: 32 << 20, Disk: newDisk(t, dir)})
	o := mustOpen(t, c, "a")
	defer o.Release()
	for range 3 {
		if at := 50*pageSize + 100; !bytes.Equal(readAt(t, o, int64(at), 8<<10), data[at:][:8<<10]) {
			t.Error("other bytes")
		}
	}
	if s := c.Stats(); s.DiskHits != 3 || s.MemoryPages != 2 { // the prefix
		t.Errorf("part of a page three times: %+v", s)
	}

	// Rows of all kinds, some of one page of which others have had a part; one behind the other in memory, as they are in
	// a reply, wherever they lie in the object.
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var ranges []source.Range
		var wants [][]byte
		reply := make([]byte, len(data))
		off, aligned := random.Int64N(1<<20), random.IntN(4) == 0 // by pages, so that one range begins where another ends
		if aligned {
			off = off / pageSize * pageSize
		}
		for off < int64(len(data)) && len(ranges) < 12 {
			n := random.Int64N(6*pageSize) + 1
			if aligned {
				n = (n + pageSize - 1) / pageSize * pageSize
			}
			n = min(n, int64(len(data))-off)
			piece := reply[:n]
			if random.IntN(4) == 0 {
				piece = reply[:n:min(n+1, int64(cap(reply)))]
			}
			ranges, reply = append(ranges, source.Range{Off: off, P: piece}), reply[n:]
			wants = append(wants, data[off:off+n])
			off += n + []int64{0, 1, pageSize - n%pageSize, random.Int64N(8 * pageSize)}[random.IntN(4)]
		}
		if err := o.ReadRanges(t.Context(), ranges); err != nil {
			t.Fatal(err)
		}
		for i, r := range ranges {
			if !bytes.Equal(r.P, wants[i]) {
				t.Fatalf("other bytes at %d", r.Off)
			}
		}
	}
	if n := src.requests.Load() - before; n != 0 {
		t.Errorf("%d requests for what is on disk", n)
	}
}

// afterLooks is a context that ends after it has been looked at so often.
type afterLooks struct {
	context.Context
	left atomic.Int64
}

func (c *afterLooks) Err() error {
	if c.left.Add(-1) < 0 {
		return context.Canceled
	}
	return nil
}

// Catches a reader who leaves while his pages are read from disk, and for whom the rest is asked for, or is told that it is not
// there.
func TestReaderLeavesDisk(t *testing.T) {
	src, data, dir := keptOnDisk(t)
	for _, offline := range []bool{false, true} {
		c := newPaged(t, src, Config{Memory: 32 << 20, Disk: newDisk(t, dir), Offline: offline})
		o := mustOpen(t, c, "a")
		before := src.requests.Load()
		for looks := range int64(12) {
			ctx := &afterLooks{Context: t.Context()}
			ctx.left.Store(looks)
			err := o.ReadAt(ctx, make([]byte, len(data)), 0)
			if !errors.Is(err, context.Canceled) || errors.Is(err, source.ErrUnavailable) {
				t.Errorf("offline %v: after %d looks: %v", offline, looks, err)
			}
		}
		if n := src.requests.Load() - before; n != 0 {
			t.Errorf("%d requests for a reader who has left", n)
		}
		o.Release()
	}
}

// noSource fails the test when it is asked.
type noSource struct {
	source.Source
	t *testing.T
}

func (s noSource) Open(context.Context, string) (source.Object, error) {
	s.t.Error("an offline cache asks the source")
	return nil, errors.New("offline")
}

// Catches an offline cache that asks the source, takes what it does not have for absent, or does not say
// what to do.
func TestOffline(t *testing.T) {
	dir := t.TempDir()
	data := noise(1<<20, 1)
	src := newRemote(map[string][]byte{"a": data, "b": data})
	c := New(src, Config{Memory: 32 << 20, Disk: newDisk(t, dir)})
	o := mustOpen(t, c, "a")
	readAt(t, o, 100_000, 100_000)
	info := o.Info()
	o.Release()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}

	c = newPaged(t, noSource{src, t}, Config{Disk: newDisk(t, dir), Offline: true})
	o = mustOpen(t, c, "a")
	defer o.Release()
	if !same(o.Info(), info) {
		t.Errorf("%+v, was %+v", o.Info(), info)
	}
	if !bytes.Equal(readAt(t, o, 110_000, 50_000), data[110_000:160_000]) {
		t.Error("other bytes")
	}
	unavailable := func(err error) {
		t.Helper()
		if !errors.Is(err, source.ErrUnavailable) || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "tesserafs warm") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v", err)
		}
	}
	for range 2 {
		unavailable(o.ReadAt(t.Context(), make([]byte, 300_000), 100_000)) // a part of it is there
		_, err := c.Open(t.Context(), "b")
		unavailable(err)
		_, err = c.Warm(t.Context(), "a", nil)
		unavailable(err)
	}
	if err := o.Check(t.Context()); err != nil {
		t.Error(err)
	}
	unavailable(func() error {
		c := newPaged(t, noSource{src, t}, Config{Offline: true}) // without any disk
		_, err := c.Open(t.Context(), "a")
		return err
	}())
}

// Catches warming that fetches what is there, leaves something out, fills the memory, or counts
// wrong; and what it kept read with a request.
func TestWarm(t *testing.T) {
	dir := t.TempDir()
	data := noise(20<<20+5, 1)
	src := newRemote(map[string][]byte{"a": data, "b": data, "long": data, "empty": {}})
	c := newPaged(t, src, Config{Memory: 32 << 20, Disk: newDisk(t, dir), Pace: onePace})
	warm := func() (fetched, told int64) {
		var came int64
		t.Helper()
		fetched, err := c.Warm(t.Context(), "a", func(bytes int64, new bool) {
			told += bytes
			if new {
				came += bytes
			}
		})
		if err != nil || came != fetched {
			t.Fatalf("%d bytes are said to come, %d came: %v", came, fetched, err)
		}
		return fetched, told
	}
	boom := errors.New("boom")
	calls := 0
	_, err := c.Warm(t.Context(), "a", func(int64, bool) { // fails when half is done
		if calls++; calls == 5 {
			src.Fail("a", boom)
		}
	})
	if !errors.Is(err, boom) {
		t.Errorf("%v, want %v", err, boom)
	}
	src.Fail("a", nil)
	fetched, told := warm()
	if told != int64(len(data)) || fetched == 0 || fetched >= told {
		t.Errorf("the second try: %d bytes fetched, %d told, of %d", fetched, told, len(data))
	}
	if fetched, told = warm(); fetched != 0 || told != int64(len(data)) {
		t.Errorf("once more: %d bytes fetched, %d told, of %d", fetched, told, len(data))
	}
	if n := c.Stats().MemoryPages; n > 6 { // prefixes
		t.Errorf("%d pages in memory", n)
	}
	letGo := src.hold()
	done := make(chan error)
	go func() { _, err := c.Warm(t.Context(), "b", nil); done <- err }()
	for src.inFlight.Load() < 2 { // half of 4
		time.Sleep(time.Millisecond)
	}
	letGo()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := src.most.Load(); n != 2 {
		t.Errorf("%d requests at once", n)
	}
	before := src.requests.Load()
	o := mustOpen(t, c, "a")
	defer o.Release()
	if !bytes.Equal(readAt(t, o, 0, len(data)), data) || src.requests.Load() != before {
		t.Errorf("%d requests for what is warm, or other bytes", src.requests.Load()-before)
	}
	if n, err := c.Warm(t.Context(), "empty", nil); n != 0 || err != nil {
		t.Errorf("empty: %d, %v", n, err)
	}
	if _, err := c.Warm(t.Context(), "none", nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("none: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Warm(ended, "a", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("with an ended context: %v", err)
	}
	leaving, leave := context.WithCancel(t.Context())
	if _, err := c.Warm(leaving, "long", func(int64, bool) { leave() }); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that ends: %v", err)
	}
	if _, err := newPaged(t, src, Config{}).Warm(t.Context(), "a", nil); err == nil || !strings.Contains(err.Error(), "no disk cache") {
		t.Errorf("without a disk: %v", err)
	}
}

// Catches a Warm that says it went well on a disk that keeps nothing.
func TestWarmOnABrokenDisk(t *testing.T) {
	src := newRemote(map[string][]byte{"a": noise(1<<20, 1)})
	d := newDisk(t, t.TempDir())
	c := newPaged(t, src, Config{Disk: d})
	o := mustOpen(t, c, "a")
	defer o.Release()
	o.disk.Close() // keeps nothing from now on
	if _, err := c.Warm(t.Context(), "a", nil); !errors.Is(err, ErrNotKept) {
		t.Errorf("%v", err)
	}
	readAt(t, o, 0, 1<<20) // reading goes on
}

// Catches readers who wait for the disk to keep pages, and buffers that are lost with what it does
// not keep.
func TestWriterDropsWhatIsTooMuch(t *testing.T) {
	data := noise(4<<20, 1)
	src := newRemote(map[string][]byte{"a": data})
	c := newPaged(t, src, Config{Disk: newDisk(t, t.TempDir())})
	c.writer.most = 100_000
	o := mustOpen(t, c, "a")
	defer o.Release()
	var readers sync.WaitGroup
	for i := range 8 {
		readers.Go(func() {
			if !bytes.Equal(readAt(t, o, int64(i<<19), 1<<19), data[i<<19:(i+1)<<19]) {
				t.Error("other bytes")
			}
		})
	}
	readers.Wait()
	if n := c.Stats().DroppedWrites; n == 0 {
		t.Error("nothing was dropped")
	}
	c.fetching.Wait()
	c.writer.close()
	if !c.buffers.room.TryAcquire(c.buffers.most) {
		t.Error("buffers were lost")
	}
	c.writer.queue = nil // closed
}

// Catches pages that are taken for others while they wait to be written to disk, which would be kept there under
// the first ones' checksums.
func TestPagesStayUntilTheyAreOnDisk(t *testing.T) {
	data := noise(32<<20, 1)
	c := newPaged(t, newRemote(map[string][]byte{"a": data}), Config{Memory: 16 << 20, Disk: newDisk(t, t.TempDir())})
	busy := make(chan write, 1024)
	idle := c.writer.queue
	c.writer.queue = busy // Nobody writes.
	o := mustOpen(t, c, "a")
	defer o.Release()
	for off := int64(0); off < int64(len(data)); off += 256 << 10 {
		readAt(t, o, off, 256<<10)
	}
	c.fetching.Wait()
	c.writer.queue = idle
	close(busy)
	var held int
	for w := range busy {
		if !bytes.Equal(w.bytes, data[w.first*pageSize:][:len(w.bytes)]) {
			t.Errorf("other bytes at page %d", w.first)
		}
		held += len(w.parts)
		c.writer.done(w)
		c.writer.waiting.Add(-int64(len(w.bytes)))
	}
	if held == 0 {
		t.Error("no page waited")
	}
}

// Catches ReadRanges of objects without pages that reads otherwise than ReadAt, from sources that read
// ranges at once and from those that do not.
func TestReadRangesDirectly(t *testing.T) {
	data := noise(200_000, 1)
	for name, src := range map[string]source.Source{
		"ranges at once":    newDir(t, map[string][]byte{"a": data}),
		"one after another": memsource.New(map[string][]byte{"a": data}),
	} {
		c := newCache(t, src, Config{})
		o := mustOpen(t, c, "a")
		ranges := []source.Range{{Off: 100_000, P: make([]byte, 5000)}, {Off: 0, P: make([]byte, 200_000)}, {Off: 7, P: nil}}
		if err := o.ReadRanges(t.Context(), ranges); err != nil || !bytes.Equal(ranges[0].P, data[100_000:105_000]) || !bytes.Equal(ranges[1].P, data) {
			t.Errorf("%s: %v, or other bytes", name, err)
		}
		if n := c.Stats().BytesRead; n != 205_000 {
			t.Errorf("%s: %d bytes read", name, n)
		}
		ranges[1].Off = 1
		if err := o.ReadRanges(t.Context(), ranges); err == nil {
			t.Errorf("%s: reads beyond the end", name)
		}
		o.Release()
	}
}
