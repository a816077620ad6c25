package tilecache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tesserafs/tesserafs/tilecache/source"
)

// nearPace is that of a gateway next door, where long requests are worth making.
var nearPace = source.Pace{Latency: time.Millisecond, Bandwidth: 500e6, Connections: 64}

// inNearSim runs a test against a simulated archive next door, in a bubble of synctest: a reader whom nobody
// wakes ends the test.
func inNearSim(t *testing.T, run func(t *testing.T, src *simSource, c *Cache)) {
	synctest.Test(t, func(t *testing.T) {
		src := newSim(nearPace, 0, simTiles())
		run(t, src, newPaged(t, src, Config{Memory: 256 << 20, Pace: func() source.Pace { return nearPace }}))
	})
}

// readOn reads a tile in order from one byte to another, by 1 MiB, and pauses after each read.
func readOn(t *testing.T, o *Object, from, to int64, pause func() time.Duration) {
	t.Helper()
	p := make([]byte, 1<<20)
	for off := from; off < to; off += int64(len(p)) {
		p = p[:min(int64(len(p)), to-off)]
		if err := o.ReadAt(t.Context(), p, off); err != nil {
			t.Fatal(err)
		}
		simCheck(t, p, off)
		time.Sleep(pause())
	}
}

func noPause() time.Duration { return 0 }

// Catches windows that are each asked for anew, and readers of all paces who wait for pages that nobody brings: those that
// were handed to a request just as it ended, or woke it for what it had brought already.
func TestLongRequest(t *testing.T) {
	for name, pause := range map[string]func() time.Duration{
		"at once":    noPause,
		"slowly":     func() time.Duration { return 3 * time.Millisecond },
		"anyhow":     func() time.Duration { return time.Duration(rand.Int64N(int64(6 * time.Millisecond))) },
		"as it ends": func() time.Duration { return longPause/32 + time.Duration(rand.Int64N(int64(time.Millisecond))) },
	} {
		t.Run(name, func(t *testing.T) {
			inNearSim(t, func(t *testing.T, src *simSource, c *Cache) {
				o := mustOpen(t, c, simName(0, 0))
				defer o.Release()
				readOn(t, o, 0, simSize, pause)
				// Opening, first reads, and one for the tile; a few more where the reader was slow.
				most := int64(12)
				if name == "as it ends" {
					most = 40
				}
				if n := src.requests.Load(); n > most {
					t.Errorf("%d requests for a tile in order", n)
				}
				if n := src.bytes.Load(); float64(n) > 1.2*simSize {
					t.Errorf("%d bytes were sent of %d", n, simSize)
				}
			})
		})
	}
}

// Catches a long request that is left, with all that has been sent of it, as soon as others beside it make each seem slow; and two
// readers of one tile who take it from each other.
func TestLongRequestsBesideEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSim(nearPace, 0, simTiles())
		var slow atomic.Bool
		c := newPaged(t, src, Config{Memory: 256 << 20, Pace: func() source.Pace {
			pace := nearPace
			if slow.Load() {
				pace.Bandwidth = longBandwidth / 3
			}
			return pace
		}})
		o := mustOpen(t, c, simName(0, 0))
		defer o.Release()
		half := int64(simSize / 2 >> 20 << 20)
		for i := int64(0); i < half; i += 4 << 20 {
			readOn(t, o, i, i+4<<20, noPause)
			readOn(t, o, half+i, min(half+i+4<<20, simSize), noPause)
			slow.Store(i > half/4)
		}
		if n := src.requests.Load(); n > 30 {
			t.Errorf("%d requests", n)
		}
	})
}

// Catches a long request that waits for somebody to go on after its object's end.
func TestLongRequestEndsWithItsObject(t *testing.T) {
	inNearSim(t, func(t *testing.T, src *simSource, c *Cache) {
		o := mustOpen(t, c, simName(0, 0))
		defer o.Release()
		readOn(t, o, 0, simSize, noPause)
		synctest.Wait()
		if n := c.longNow.Load(); n != 0 {
			t.Errorf("%d long requests are left", n)
		}
	})
}

// Catches a reader that stops and has its connection go on, or be held for good; and one that comes back and finds it
// gone.
func TestLongRequestOfReaderThatStops(t *testing.T) {
	inNearSim(t, func(t *testing.T, src *simSource, c *Cache) {
		o := mustOpen(t, c, simName(0, 0))
		defer o.Release()
		readOn(t, o, 0, 40<<20, noPause)
		time.Sleep(longPause / 2)
		if n := c.requestsNow.Load(); n != 0 {
			t.Errorf("%d requests count as under way while nobody reads on", n)
		}
		if src.slots.TryAcquire(int64(nearPace.Connections)) {
			t.Error("the connection is gone before the pause is over")
			src.slots.Release(int64(nearPace.Connections))
		}
		sent := src.bytes.Load()
		if sent > 90<<20 {
			t.Errorf("%d MiB were sent for 40", sent>>20)
		}
		time.Sleep(longPause)
		if !src.slots.TryAcquire(int64(nearPace.Connections)) {
			t.Fatal("a connection is held though nobody reads on")
		}
		src.slots.Release(int64(nearPace.Connections))
		if n := src.bytes.Load(); n != sent {
			t.Errorf("%d bytes more were sent", n-sent)
		}
		readOn(t, o, 40<<20, simSize, noPause)
	})
}

// Catches a request that is gone on with for as long as a reader takes, while the object becomes another: the server
// would not say.
func TestLongRequestSeesChange(t *testing.T) {
	inNearSim(t, func(t *testing.T, src *simSource, c *Cache) {
		o := mustOpen(t, c, simName(0, 0))
		defer o.Release()
		readOn(t, o, 0, 20<<20, noPause)
		src.changed.Store(true)
		began := time.Now()
		p := make([]byte, 1<<20)
		for off := int64(20 << 20); off < simSize-1<<20; off += 1 << 20 {
			if err := o.ReadAt(t.Context(), p, off); err != nil {
				if !errors.Is(err, source.ErrChanged) {
					t.Error(err)
				}
				return
			}
			time.Sleep(longPause / 40) // so that no window comes after a pause
			if took := time.Since(began); took > longAge*5/4 {
				t.Fatalf("it is read on after %v", took)
			}
		}
		t.Error("it is read to its end")
	})
}

// Catches Close that waits for a reader to go on, and requests that it leaves behind.
func TestCloseEndsLongRequest(t *testing.T) {
	inNearSim(t, func(t *testing.T, src *simSource, c *Cache) {
		o := mustOpen(t, c, simName(0, 0))
		readOn(t, o, 0, 40<<20, noPause)
		o.Release()
		began := time.Now()
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > longPause/2 {
			t.Errorf("Close took %v", took)
		}
		if !src.slots.TryAcquire(int64(nearPace.Connections)) {
			t.Error("a connection is still held")
		}
	})
}

// Catches a long request taken where many short ones bring more, and gone on with when it turns out slow.
func TestLongRequestsWhereTheyPay(t *testing.T) {
	far := nearPace
	far.Bandwidth = 80e6
	c := newPaged(t, newRemote(nil), Config{Pace: func() source.Pace { return far }})
	few := nearPace
	few.Connections = 3
	if c := newPaged(t, newRemote(nil), Config{Pace: func() source.Pace { return few }}); !c.longer(few) {
		t.Error("none where three requests may be made at once")
	} else if c.longNow.Store(1); c.longer(few) {
		t.Error("a second one of three, which leaves one to those who wait")
	}
	if c.longer(c.paceNow()) {
		t.Error("one request at a time where 16 connections fill the line")
	}
	if !c.longer(nearPace) {
		t.Error("none where three do")
	}
	c.judge(&request{long: true, bytes: judgedBytes, busy: time.Second / 20})
	if !c.longer(nearPace) {
		t.Error("none after a quick one")
	}
	c.judge(&request{long: true, bytes: judgedBytes - 1, busy: time.Hour})
	if !c.longer(nearPace) {
		t.Error("none after one of which little was read")
	}
	c.judge(&request{long: true, bytes: judgedBytes, busy: time.Second})
	if c.longer(nearPace) {
		t.Error("another after one of 8 MiB a second")
	}
	c.shortUntil.Store(0)
	c.judge(&request{long: true, bytes: judgedBytes, busy: time.Millisecond, broke: mostBroken})
	if c.longer(nearPace) {
		t.Error("another after one that broke off again and again")
	}
	c.shortUntil.Store(time.Now().Add(-time.Second).UnixNano())
	if !c.longer(nearPace) {
		t.Error("none a minute after a slow one")
	}
}

// noEnd is more bytes than any answer has.
const noEnd = 1 << 40

// breaking is a remote whose answers break off.
type breaking struct {
	*remote
	after int64        // bytes; below 0: no answer comes at all; noEnd: where they should end
	err   error        // as which they do
	broke atomic.Int64 // how many did
	alone atomic.Int64 // up to where short requests have come
}

func (b *breaking) Open(ctx context.Context, name string) (source.Object, error) {
	o, err := b.remote.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	return &breakingObject{o.(*remoteObject), b}, nil
}

type breakingObject struct {
	*remoteObject
	b *breaking
}

func (o *breakingObject) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	for end := off + int64(len(p)); ; {
		if last := o.b.alone.Load(); end <= last || o.b.alone.CompareAndSwap(last, end) {
			return o.remoteObject.ReadAt(ctx, p, off)
		}
	}
}

func (o *breakingObject) Stream(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	if o.b.after < 0 {
		o.b.broke.Add(1)
		return nil, o.b.err
	}
	s, err := o.remoteObject.Stream(ctx, off, n)
	return &breakingStream{s, o.b, o.b.after}, err
}

type breakingStream struct {
	io.ReadCloser
	b    *breaking
	left int64
}

func (s *breakingStream) Read(p []byte) (int, error) {
	if s.left == 0 {
		s.b.broke.Add(1)
		return 0, s.b.err
	}
	n, err := s.ReadCloser.Read(p[:min(int64(len(p)), s.left)])
	s.left -= int64(n)
	if err == io.EOF && s.b.after == noEnd {
		s.b.broke.Add(1)
		return 0, s.b.err
	}
	for i := range p[n:] { // as a buffer may be
		p[n+i] = 0xEE
	}
	return n, err
}

// Catches bytes of an answer that broke off taken for the page's, pages behind it that are lost, and a change of
// the object that is asked for again instead of told.
func TestAnswersThatBreakOff(t *testing.T) {
	data := noise(24<<20+77, 1)
	for _, after := range []int64{-1, 0, 1, 100_000, 3 << 20, 5<<20 + 1234, noEnd} {
		for _, err := range []error{&source.Transient{Err: errors.New("it broke off")}, io.ErrUnexpectedEOF, fmt.Errorf("x: %w", source.ErrChanged)} {
			src := &breaking{remote: newRemote(map[string][]byte{"a": data}), after: after, err: err}
			c := newPaged(t, src, Config{Pace: func() source.Pace { return nearPace }})
			o := mustOpen(t, c, "a")
			p := make([]byte, 1<<20)
			var failed error
			for off := 0; off < len(data) && failed == nil; off += len(p) {
				p = p[:min(len(p), len(data)-off)]
				if failed = o.ReadAt(t.Context(), p, int64(off)); failed == nil && !bytes.Equal(p, data[off:off+len(p)]) {
					t.Fatalf("after %d, %v: other bytes at %d", after, err, off)
				}
			}
			if changed := errors.Is(err, source.ErrChanged) && after != noEnd; (failed != nil) != changed || changed && !errors.Is(failed, source.ErrChanged) {
				t.Errorf("after %d, %v: reading gives %v", after, err, failed)
			}
			if after == noEnd && src.alone.Load() != int64(len(data)) {
				t.Errorf("what an answer that does not end gave last is not asked for again")
			}
			if n := src.broke.Load(); n == 0 || n > 16 { // of more than 24, were each fetch to try again
				t.Errorf("after %d: %d answers broke off", after, n)
			}
			o.Release()
		}
	}
}

// Catches an object that cannot be opened and is asked for twice as often as there are requests; each may take a minute.
func TestOpenFailsOnce(t *testing.T) {
	src := newRemote(map[string][]byte{"a": noise(8<<20, 1), "b": noise(100, 2)})
	one := source.Pace{Latency: 10 * time.Millisecond, Bandwidth: 1e9, Connections: 1} // for all of it one request
	c := newPaged(t, src, Config{OpenObjects: 1, Memory: 512 << 20, Pace: func() source.Pace { return one }})
	mustOpen(t, c, "a").Release()
	mustOpen(t, c, "b").Release() // whereby a is closed
	src.Fail("a", source.ErrUnavailable)
	before := src.Opens("a")
	o := mustOpen(t, c, "a")
	defer o.Release()
	if err := o.ReadAt(t.Context(), make([]byte, 6<<20), 1<<20); !errors.Is(err, source.ErrUnavailable) {
		t.Errorf("reading gives %v", err)
	}
	c.fetching.Wait()
	if n := src.Opens("a") - before; n != 1 {
		t.Errorf("it was asked for %d times", n)
	}
}

// Catches a long request that is given what does not come next, or what comes after its end.
func TestGoOn(t *testing.T) {
	at := func(first int64) *request {
		return &request{fetches: []*fetch{{parts: []part{{number: first}}}}, end: first + 1}
	}
	for _, test := range []struct {
		first int64
		ended bool
		want  bool
	}{{100, false, true}, {100 + longSkip, false, true}, {100 + longSkip + 1, false, false}, {99, false, false}, {100, true, false}} {
		q := &request{object: &Object{state: &state{info: source.Info{Size: largestObject}}}, end: 100, wake: make(chan struct{}, 1)}
		q.take(test.ended)
		if got := q.goOn(at(test.first)); got != test.want {
			t.Errorf("%+v: %v", test, got)
		}
		if f, _ := q.take(true); (f != nil) != test.want || test.want && q.end != test.first+1 {
			t.Errorf("%+v: up to %d", test, q.end)
		}
	}
}

// Catches pages that nobody holds and that are not found: all of the memory can be held at once.
func TestAllPagesCanBeHeld(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		s := newPageStore(leastMemory + random.Int64N(8<<20))
		of, n := new(state), int64(0)
		var held []*page
		for range random.Int64N(3 * s.count) { // use it for a while
			p := s.take(pageKey{of, n}, random.IntN(3) == 0)
			n++
			if held = append(held, p); int64(len(held)) < s.count && random.IntN(8) == 0 {
				continue
			}
			i := random.IntN(len(held))
			if random.IntN(10) == 0 {
				s.forget(held[i])
			}
			s.letGo(held[i])
			held[i] = held[len(held)-1]
			held = held[:len(held)-1]
		}
		for int64(len(held)) < s.count {
			held = append(held, s.take(pageKey{of, n}, random.IntN(2) == 0))
			n++
		}
		slots := make(map[int64]bool)
		for _, p := range held {
			slots[p.slot] = true
		}
		if int64(len(slots)) != s.count {
			t.Fatalf("%d pages for %d", len(slots), s.count)
		}
		s.close()
	}
}

// Catches strips whose pages lie all over the memory once it has been filled a few times, so that each is read and written
// by itself; and single pages, which are taken between, that break them up.
func TestStripsLieSideBySide(t *testing.T) {
	src := newSim(nearPace, 0, simTiles())
	src.pace.Latency = 0
	c := newPaged(t, src, Config{Memory: 64 << 20, Pace: func() source.Pace { return nearPace }})
	var tiles []*Object
	for i := range 4 {
		o := mustOpen(t, c, simName(i/2, i%2))
		defer o.Release()
		tiles = append(tiles, o)
	}
	random := rand.New(rand.NewPCG(1, 1))
	for row := int64(0); row+8 < simTile; row += 8 { // 8 rows of each, as far as a chunk has them
		for i, o := range tiles[:3] {
			var ranges []source.Range
			for r := row; r < row+8; r++ {
				ranges = append(ranges, source.Range{Off: simHeader + r*simRow + int64(i)*40_000, P: make([]byte, 60_000)})
			}
			if err := o.ReadRanges(t.Context(), ranges); err != nil {
				t.Fatal(err)
			}
		}
		readAt(t, tiles[3], random.Int64N(simSize-100), 100)
	}
	c.fetching.Wait()
	s := c.pages
	s.mu.Lock()
	defer s.mu.Unlock()
	var strips, joined int
	for _, p := range s.made {
		if !p.kept || !p.strip {
			continue
		}
		strips++
		if k := int(p.slot) + 1; k < len(s.made) && s.made[k].kept && s.made[k].key == (pageKey{p.key.of, p.key.number + 1}) {
			joined++
		}
	}
	t.Logf("%d pages of strips, %d of them before the next", strips, joined)
	if strips < 1000 || joined < strips*8/10 {
		t.Error("want 4 of 5 side by side at least")
	}
}
