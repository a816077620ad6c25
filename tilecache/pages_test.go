package tilecache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tesserafs/tesserafs/tilecache/disk"
	"github.com/tesserafs/tesserafs/tilecache/source"
	"github.com/tesserafs/tesserafs/tilecache/source/memsource"
)

// remote is a memsource as remote sources are: opening brings a prefix, checking costs nothing, and
// requests are counted.
type remote struct {
	*memsource.Source
	prefix             int
	requests, inFlight atomic.Int64
	most               atomic.Int64 // requests at once
	gate               atomic.Pointer[chan struct{}]
	linger             time.Duration // that a request takes to end when its context does
}

type remoteObject struct {
	source.Object
	r      *remote
	prefix []byte
	gone   atomic.Bool
}

func newRemote(objects map[string][]byte) *remote {
	return &remote{Source: memsource.New(objects), prefix: 32 << 10}
}

func (r *remote) Open(ctx context.Context, name string) (source.Object, error) {
	o, err := r.Source.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	p := make([]byte, min(o.Info().Size, int64(r.prefix)))
	if _, err := o.ReadAt(ctx, p, 0); err != nil {
		return nil, err
	}
	return &remoteObject{Object: o, r: r, prefix: p}, nil
}

func (o *remoteObject) Prefix() []byte { return o.prefix }

func (o *remoteObject) Check(context.Context) error {
	if o.gone.Load() {
		return source.ErrChanged
	}
	return nil
}

func (o *remoteObject) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	defer o.request(ctx)()
	n, err := o.Object.ReadAt(ctx, p, off)
	if errors.Is(err, source.ErrChanged) {
		o.gone.Store(true)
	}
	return n, err
}

// Stream is one request, from when it is asked until it is closed.
func (o *remoteObject) Stream(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	end := o.request(ctx)
	if err := ctx.Err(); err != nil {
		end()
		return nil, err
	}
	return &remoteStream{o: o, ctx: ctx, off: off, left: n, end: sync.OnceFunc(end)}, nil
}

type remoteStream struct {
	o         *remoteObject
	ctx       context.Context
	off, left int64
	end       func()
}

func (s *remoteStream) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	n, err := s.o.Object.ReadAt(s.ctx, p[:min(int64(len(p)), s.left)], s.off)
	if errors.Is(err, source.ErrChanged) {
		s.o.gone.Store(true)
	}
	s.off, s.left = s.off+int64(n), s.left-int64(n)
	return n, err
}

func (s *remoteStream) Close() error {
	s.end()
	return nil
}

// request counts a request, and waits as hold asks for.
func (o *remoteObject) request(ctx context.Context) (end func()) {
	o.r.requests.Add(1)
	now := o.r.inFlight.Add(1)
	for most := o.r.most.Load(); now > most && !o.r.most.CompareAndSwap(most, now); most = o.r.most.Load() {
	}
	if gate := o.r.gate.Load(); gate != nil {
		select {
		case <-*gate:
		case <-ctx.Done():
			time.Sleep(o.r.linger)
		}
	}
	return func() { o.r.inFlight.Add(-1) }
}

// hold makes requests wait until the function it returns is called.
func (r *remote) hold() (letGo func()) {
	gate := make(chan struct{})
	r.gate.Store(&gate)
	return func() {
		r.gate.Store(nil)
		close(gate)
	}
}

// noise is n bytes that do not repeat.
func noise(n int, seed uint64) []byte {
	p := make([]byte, n)
	rng := rand.NewChaCha8([32]byte{byte(seed)})
	_, _ = rng.Read(p)
	return p
}

func newDisk(t testing.TB, dir string) *disk.Cache {
	t.Helper()
	d, err := disk.Open(dir, disk.Config{Limit: 4 << 30})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// newPaged is a cache with pages that the test closes. Before that nothing may be held in it any more.
func newPaged(t testing.TB, src source.Source, cfg Config) *Cache {
	t.Helper()
	if cfg.Memory == 0 {
		cfg.Memory = 64 << 20
	}
	c := newCache(t, src, cfg)
	t.Cleanup(func() { checkIdle(t, c) })
	return c
}

// checkIdle reports pages or places that were lost. Nobody reads.
func checkIdle(t testing.TB, c *Cache) {
	t.Helper()
	c.opening.Wait()
	c.fetching.Wait()
	for c.writer.waiting.Load() > 0 { // What goes to disk holds its pages until then.
		time.Sleep(time.Millisecond)
	}
	s := c.pages
	s.mu.Lock()
	defer s.mu.Unlock()
	if kept := int64(s.kept.Len()+len(s.free)+len(s.strips)-len(s.made)) + s.count; !s.closed && kept != s.count {
		t.Errorf("%d of %d pages are left", kept, s.count)
	}
	if !s.room.TryAcquire(s.count) {
		t.Error("places are still taken")
		return
	}
	s.room.Release(s.count)
	if c.disk == nil && !c.buffers.room.TryAcquire(c.buffers.most) {
		t.Error("buffers were lost")
	}
	var unused int64
	for _, p := range s.kept.Values() {
		if p.refs != 0 || p.fetch != nil || !p.kept {
			t.Errorf("page %d is held by %d", p.key.number, p.refs)
		}
		if p.window != nil && !p.window.stale {
			unused++
		}
	}
	if unused != s.unused {
		t.Errorf("%d pages count as read ahead, %d are", s.unused, unused)
	}
}

func readAt(t testing.TB, o *Object, off int64, n int) []byte {
	t.Helper()
	p := make([]byte, n)
	if err := o.ReadAt(t.Context(), p, off); err != nil {
		t.Fatal(err)
	}
	return p
}

// Catches bytes of other places, in every alignment, at the object's end, in ranges that overlap,
// touch or are empty, with less memory than the object, and with pages that come from all
// three tiers at once.
func TestPagesAreRight(t *testing.T) {
	const size = 9<<20 + 12345
	data := noise(size, 1)
	for _, withDisk := range []bool{false, true} {
		t.Run(fmt.Sprintf("disk=%v", withDisk), func(t *testing.T) {
			src := newRemote(map[string][]byte{"a": data, "b": noise(40_000, 2), "empty": {}})
			cfg := Config{Memory: leastMemory}
			if withDisk {
				cfg.Disk = newDisk(t, t.TempDir())
			}
			c := newPaged(t, src, cfg)
			o := mustOpen(t, c, "a")
			defer o.Release()
			var readers sync.WaitGroup
			for reader := range uint64(8) {
				readers.Go(func() {
					rng := rand.New(rand.NewPCG(reader, 1))
					for range 60 {
						ranges := make([]source.Range, rng.IntN(20))
						for i := range ranges {
							off := rng.IntN(size + 1)
							if rng.IntN(4) == 0 {
								off = off / pageSize * pageSize
							}
							ranges[i] = source.Range{Off: int64(off), P: make([]byte, rng.IntN(min(size-off, 50_000)+1))}
						}
						if err := o.ReadRanges(t.Context(), ranges); err != nil {
							t.Error(err)
							return
						}
						for _, r := range ranges {
							if !bytes.Equal(r.P, data[r.Off:r.Off+int64(len(r.P))]) {
								t.Errorf("%d bytes at %d are others", len(r.P), r.Off)
							}
						}
					}
				})
			}
			readers.Wait()
			if got := readAt(t, o, 0, size); !bytes.Equal(got, data) { // more than the memory
				t.Error("the whole reads otherwise")
			}
			e := mustOpen(t, c, "empty")
			defer e.Release()
			if err := e.ReadAt(t.Context(), nil, 0); err != nil {
				t.Error(err)
			}
			if s := c.Stats(); s.MemoryBytes > leastMemory*3/4 || s.MemoryPages == 0 {
				t.Errorf("%d bytes in memory, %d allowed", s.MemoryBytes, leastMemory*3/4)
			}
		})
	}
}

// Catches reads outside the object that succeed, or panic, or say something else than other objects do.
func TestPagesOutside(t *testing.T) {
	src := newRemote(map[string][]byte{"a": noise(100_000, 1)})
	c := newPaged(t, src, Config{})
	o := mustOpen(t, c, "a")
	defer o.Release()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, test := range []struct {
		ctx  context.Context
		off  int64
		n    int
		want error
	}{
		{t.Context(), 99_999, 2, io.ErrUnexpectedEOF},
		{t.Context(), 100_000, 1, io.ErrUnexpectedEOF},
		{t.Context(), 1 << 62, 1, io.ErrUnexpectedEOF},
		{t.Context(), -1, 1, fs.ErrInvalid},
		{t.Context(), -1 << 63, 1, fs.ErrInvalid},
		{ended, 0, 1, context.Canceled},
		{t.Context(), 100_000, 0, nil},
	} {
		if err := o.ReadAt(test.ctx, make([]byte, test.n), test.off); !errors.Is(err, test.want) || err != nil && !strings.Contains(err.Error(), "a") {
			t.Errorf("%d bytes at %d: %v, want %v", test.n, test.off, err, test.want)
		}
		ranges := []source.Range{{Off: 5, P: make([]byte, 5)}, {Off: test.off, P: make([]byte, test.n)}}
		if err := o.ReadRanges(test.ctx, ranges); !errors.Is(err, test.want) {
			t.Errorf("%d bytes at %d beside others: %v, want %v", test.n, test.off, err, test.want)
		}
	}
	if n := src.requests.Load(); n != 0 {
		t.Errorf("%d requests", n)
	}
}

// Catches a request for what opening has brought along, and for what is in memory.
func TestPrefixIsPages(t *testing.T) {
	src := newRemote(map[string][]byte{"header": noise(1<<20, 1), "mask": noise(31_000, 2), "exact": noise(32<<10, 3)})
	d := newDisk(t, t.TempDir())
	c := newPaged(t, src, Config{Disk: d})
	for name, n := range map[string]int{"header": 32 << 10, "mask": 31_000, "exact": 32 << 10} {
		o := mustOpen(t, c, name)
		readAt(t, o, 0, n)
		o.Release()
	}
	if n := src.requests.Load(); n != 0 {
		t.Errorf("%d requests for prefixes", n)
	}
	o := mustOpen(t, c, "header")
	defer o.Release()
	for range 3 {
		readAt(t, o, 50_000, 20_000)
	}
	s := c.Stats()
	if s.Requests != 1 || s.SourcePages != 2 || s.Opens != 3 || s.BytesFetched != 2*pageSize || s.BytesRead != 3*20_000+32<<10*2+31_000 {
		t.Errorf("%+v", s)
	}
	if s.MemoryHits != 2+2+2+2*2 { // of prefixes, and two looks at two pages
		t.Errorf("%d pages were found in memory", s.MemoryHits)
	}
}

// Catches a fetch for each of those who want a page, a leader whose leaving strands the others, a
// reader who cannot leave, and a fetch that is thrown away as nobody waits for it.
func TestSharedFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		data := noise(1<<20, 1)
		src := newRemote(map[string][]byte{"a": data})
		c := newPaged(t, src, Config{})
		o := mustOpen(t, c, "a")
		defer o.Release()
		letGo := src.hold()
		leader, leave := context.WithCancel(t.Context())
		led := make(chan error, 1)
		go func() { led <- o.ReadAt(leader, make([]byte, 100), 500_000) }()
		synctest.Wait()
		var others sync.WaitGroup
		for i := range int64(50) {
			others.Go(func() {
				p := make([]byte, 1+i)
				if err := o.ReadAt(t.Context(), p, 500_000); err != nil || !bytes.Equal(p, data[500_000:][:1+i]) {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		leave()
		if err := <-led; !errors.Is(err, context.Canceled) {
			t.Errorf("the one who left: %v", err)
		}
		letGo()
		others.Wait()
		if n := src.requests.Load(); n != 1 {
			t.Errorf("%d requests for one page", n)
		}
		if s := c.Stats(); s.Waits != 50 {
			t.Errorf("%d waits", s.Waits)
		}

		letGo = src.hold()
		ctx, leave := context.WithTimeout(t.Context(), time.Second)
		defer leave()
		if err := o.ReadAt(ctx, make([]byte, 1), 900_000); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the only one: %v", err)
		}
		letGo()
		synctest.Wait()
		readAt(t, o, 900_000, 1)
		if n := src.requests.Load(); n != 2 {
			t.Errorf("%d requests: what nobody waited for was thrown away", n)
		}
	})
}

// Catches requests for objects that were closed and are wanted again, whose pages are here; and one
// that was replaced meanwhile taken for what it was.
func TestSecondLookCostsNothing(t *testing.T) {
	data := noise(200_000, 1)
	src := newRemote(map[string][]byte{"a": data, "b": noise(10, 2)})
	c := newPaged(t, src, Config{OpenObjects: 1})
	look := func(off int64) error {
		o, err := c.Open(t.Context(), "a")
		if err != nil {
			return err
		}
		defer o.Release()
		if o.Info().Size != int64(len(data)) {
			t.Errorf("%+v", o.Info())
		}
		if err := o.Check(t.Context()); err != nil {
			return err
		}
		p := make([]byte, 10)
		if err := o.ReadAt(t.Context(), p, off); err != nil {
			return err
		}
		if !bytes.Equal(p, data[off:off+10]) {
			t.Errorf("other bytes at %d", off)
		}
		return o.Check(t.Context())
	}
	other := func() { mustOpen(t, c, "b").Release() } // a leaves the cache
	for range 3 {
		if err := look(100_000); err != nil {
			t.Fatal(err)
		}
		other()
	}
	if a, n := src.Opens("a"), src.requests.Load(); a != 1 || n != 1 {
		t.Errorf("%d opens and %d requests for three looks", a, n)
	}
	if err := look(150_000); err != nil { // a page that is missing
		t.Fatal(err)
	}
	if a, n := src.Opens("a"), src.requests.Load(); a != 2 || n != 2 {
		t.Errorf("%d opens and %d requests", a, n)
	}
	other()
	for _, change := range []func(){func() { src.Put("a", noise(200_000, 3)) }, func() { src.Remove("a") }} {
		change()
		if err := look(190_000); !errors.Is(err, source.ErrChanged) {
			t.Errorf("a missing page of an object that is another now: %v", err)
		}
		if err := look(100_000); !errors.Is(err, source.ErrChanged) {
			t.Errorf("a page that is here, after the object was found changed: %v", err)
		}
		other()
	}
}

// Catches pages of a state that serve another, holders who do not hear of a change, and pages that
// are thrown away by Forget although nothing changed.
func TestPagesAreOfOneState(t *testing.T) {
	before, after := noise(200_000, 1), noise(200_000, 2)
	src := newRemote(map[string][]byte{"a": before})
	c := newPaged(t, src, Config{Disk: newDisk(t, t.TempDir())})
	o := mustOpen(t, c, "a")
	readAt(t, o, 100_000, 100)
	c.Forget()
	again := mustOpen(t, c, "a")
	readAt(t, again, 100_000, 100)
	again.Release()
	if n := src.requests.Load(); n != 1 {
		t.Errorf("%d requests: nothing changed", n)
	}
	src.Put("a", after)
	if got := readAt(t, o, 100_000, 100); !bytes.Equal(got, before[100_000:][:100]) {
		t.Error("not the pinned state")
	}
	for _, off := range []int64{150_000, 100_000} { // the second is in memory
		if err := o.ReadAt(t.Context(), make([]byte, 1), off); !errors.Is(err, source.ErrChanged) || !strings.Contains(err.Error(), "a") {
			t.Errorf("a read at %d of what is no longer there: %v", off, err)
		}
	}
	if n := src.requests.Load(); n != 2 {
		t.Errorf("%d requests: one finds the change, none comes after it", n)
	}
	if err := o.Check(t.Context()); !errors.Is(err, source.ErrChanged) {
		t.Errorf("check: %v", err)
	}
	if n := c.Stats().MemoryPages; n != 0 {
		t.Errorf("%d pages of it are in memory", n)
	}
	if _, err := c.Open(t.Context(), "a"); !errors.Is(err, source.ErrChanged) {
		t.Errorf("open: %v", err)
	}
	o.Release()
	c.Forget()
	o = mustOpen(t, c, "a")
	defer o.Release()
	if got := readAt(t, o, 90_000, 100_000); !bytes.Equal(got, after[90_000:][:100_000]) {
		t.Error("the new state reads otherwise")
	}
}

// Catches failures that are remembered, told to some who wait only, or that cost memory.
func TestFailedFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		data := noise(1<<20, 1)
		src := newRemote(map[string][]byte{"a": data})
		c := newPaged(t, src, Config{})
		o := mustOpen(t, c, "a")
		defer o.Release()
		letGo := src.hold()
		var readers sync.WaitGroup
		boom := fmt.Errorf("boom: %w", source.ErrUnavailable)
		for range 10 {
			readers.Go(func() {
				if err := o.ReadAt(t.Context(), make([]byte, 200_000), 400_000); !errors.Is(err, boom) {
					t.Errorf("%v, want %v", err, boom)
				}
			})
		}
		synctest.Wait()
		src.Fail("a", boom)
		letGo()
		readers.Wait()
		if n := c.Stats().MemoryPages; n != 2 {
			t.Errorf("%d pages, want those of the prefix", n)
		}
		src.Fail("a", nil)
		if got := readAt(t, o, 400_000, 200_000); !bytes.Equal(got, data[400_000:600_000]) {
			t.Error("other bytes afterwards")
		}
	})
}

// Catches bytes that never came taken for pages, and a panic of the source that ends the process.
func TestFaultySourceOfPages(t *testing.T) {
	src := memsource.New(map[string][]byte{"short": noise(100_000, 1), "wild": noise(100_000, 1)})
	c := newPaged(t, faultySource{src}, Config{})
	for name, says := range map[string]string{"short": "unexpected EOF", "wild": "panic: a fault of the source"} {
		o := mustOpen(t, c, name)
		if err := o.ReadAt(t.Context(), make([]byte, 10), 50_000); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", name, err)
		}
		o.Release()
	}
}

type faultySource struct{ source.Source }

func (s faultySource) Open(ctx context.Context, name string) (source.Object, error) {
	o, err := s.Source.Open(ctx, name)
	return faultyObject{shortObject{o}, name}, err
}

type faultyObject struct {
	shortObject
	name string
}

func (o faultyObject) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if o.name == "wild" {
		panic("a fault of the source")
	}
	return o.shortObject.ReadAt(ctx, p, off)
}

// Catches sizes no object has, which overflow, and memory nobody has.
func TestHostileSizes(t *testing.T) {
	for size, want := range map[int64]error{-1: fs.ErrInvalid, 1<<63 - 1: fs.ErrInvalid, 1 << 60: source.ErrUnavailable} {
		c := newPaged(t, hugeSource{memsource.New(nil), size}, Config{Memory: 1 << 62, Disk: newDisk(t, t.TempDir())})
		o, err := c.Open(t.Context(), "a")
		if err == nil {
			err = o.ReadAt(t.Context(), make([]byte, 10), size-10)
			if _, warmErr := c.Warm(t.Context(), "a", nil); warmErr == nil {
				t.Errorf("%d bytes are warm", size)
			}
			o.Release()
		}
		if !errors.Is(err, want) {
			t.Errorf("%d bytes: %v, want %v", size, err, want)
		}
	}
}

// hugeSource has objects of one size, and none of their bytes.
type hugeSource struct {
	source.Source
	size int64
}

func (s hugeSource) Open(context.Context, string) (source.Object, error) { return hugeObject{s}, nil }

type hugeObject struct{ hugeSource }

func (o hugeObject) Info() source.Info           { return source.Info{Size: o.size, ETag: "1"} }
func (o hugeObject) Check(context.Context) error { return nil }
func (o hugeObject) Close() error                { return nil }
func (o hugeObject) ReadAt(context.Context, []byte, int64) (int, error) {
	return 0, fmt.Errorf("no such range: %w", source.ErrUnavailable)
}

// Catches a Close that leaves fetches running or readers waiting, and reads of memory that was given
// back.
func TestClosePages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newRemote(map[string][]byte{"a": noise(1<<20, 1)})
		c := New(src, Config{Memory: 8 << 20})
		o := mustOpen(t, c, "a")
		src.hold()
		read := make(chan error, 3)
		for i := range int64(3) {
			go func() { read <- o.ReadAt(t.Context(), make([]byte, 10), 300_000+i*200_000) }()
		}
		synctest.Wait()
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if n := src.inFlight.Load(); n != 0 {
			t.Errorf("%d requests under way", n)
		}
		for range 3 {
			if err := <-read; !errors.Is(err, fs.ErrClosed) {
				t.Errorf("a read under way: %v", err)
			}
		}
		if err := o.ReadAt(t.Context(), make([]byte, 10), 0); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("a read of what was in memory: %v", err)
		}
		if _, err := c.Warm(t.Context(), "a", nil); err == nil {
			t.Error("a closed cache warms")
		}
		o.Release()
		if n := c.Stats().OpenObjects; n != 0 {
			t.Errorf("%d objects open", n)
		}
	})
}

// Catches a Close that does not wait for fetches that everyone has left.
func TestCloseEndsFetches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newRemote(map[string][]byte{"a": noise(1<<20, 1)})
		src.linger = time.Second
		c := New(src, Config{Memory: 8 << 20})
		o := mustOpen(t, c, "a")
		src.hold()
		ctx, leave := context.WithTimeout(t.Context(), time.Second)
		defer leave()
		if err := o.ReadAt(ctx, make([]byte, 10), 200_000); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		o.Release()
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if n, open := src.inFlight.Load(), c.Stats().OpenObjects; n != 0 || open != 0 {
			t.Errorf("%d requests under way, %d objects open", n, open)
		}
	})
}

// Catches readers who wait for one another for ever, or for room that is never given back, when all
// want more than there is: 20 readers of 4 MiB each, with memory for 4 MiB and a slow source.
func TestMoreReadersThanMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		data := noise(8<<20, 1)
		src := newRemote(map[string][]byte{"a": data})
		c := newPaged(t, src, Config{Memory: leastMemory})
		o := mustOpen(t, c, "a")
		defer o.Release()
		var readers sync.WaitGroup
		for i := range 20 {
			readers.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				off := i * 200_000
				p := make([]byte, 4<<20)
				if err := o.ReadAt(ctx, p, int64(off)); err != nil || !bytes.Equal(p, data[off:off+4<<20]) {
					t.Errorf("at %d: %v", off, err)
				}
			})
		}
		readers.Wait()
		synctest.Wait()
		if n := c.Stats().MemoryBytes; n > leastMemory {
			t.Errorf("%d bytes", n)
		}
	})
}

// Catches races between reading, leaving, changing, forgetting and evicting. (Run with -race.)
func TestConcurrentPages(t *testing.T) {
	states := [2][]byte{noise(300_000, 1), noise(300_000, 2)}
	src := newRemote(map[string][]byte{"a": states[0], "b": states[0], "c": states[0]})
	d := newDisk(t, t.TempDir())
	c := newPaged(t, src, Config{Memory: leastMemory, OpenObjects: 2, Disk: d})
	var busy sync.WaitGroup
	for worker := range 8 {
		busy.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(worker), 0))
			for i := range 300 {
				name := string(rune('a' + rng.IntN(3)))
				if worker == 0 && i%30 == 0 {
					src.Put(name, states[rng.IntN(2)])
				}
				if worker == 1 && i%20 == 0 {
					c.Forget()
				}
				ctx, cancel := context.WithCancel(t.Context())
				if i%9 == 0 {
					go cancel()
				}
				o, err := c.Open(ctx, name)
				if err == nil {
					off := rng.IntN(250_000)
					p := make([]byte, 1+rng.IntN(50_000))
					if err = o.ReadAt(ctx, p, int64(off)); err == nil &&
						!bytes.Equal(p, states[0][off:off+len(p)]) && !bytes.Equal(p, states[1][off:off+len(p)]) {
						t.Errorf("%s reads bytes of neither state", name)
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
}
