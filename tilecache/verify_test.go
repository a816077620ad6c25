package tilecache

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"hash/crc64"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tesserafs/tesserafs/tilecache/source"
)

// given are the checksums that somebody gives for objects.
type given struct {
	mu    sync.Mutex
	sums  map[string]Sums
	fails error
	asked []string // names
	told  map[string]error
}

func newGiven() *given { return &given{sums: map[string]Sums{}, told: map[string]error{}} }

func (g *given) crc(name string, data []byte) {
	sum := crc64.Checksum(data, CRC64NVME)
	g.sums[name] = Sums{CRC64NVME: &sum}
}

func (g *given) sha(name string, data []byte) {
	sum := sha256.Sum256(data)
	g.sums[name] = Sums{SHA256: sum[:]}
}

func (g *given) verification() *Verification {
	return &Verification{Sums: func(_ context.Context, names []string) ([]Sums, error) {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.asked = append(g.asked, names...)
		if g.fails != nil {
			return nil, g.fails
		}
		sums := make([]Sums, len(names))
		for i, name := range names {
			sums[i] = g.sums[name]
		}
		return sums, nil
	}}
}

// listen has a cache tell what it finds damaged, once each.
func (g *given) listen(t *testing.T, c *Cache) {
	c.OnDamage(func(object string, err error) {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.told[object] != nil {
			t.Errorf("%s is told twice", object)
		}
		g.told[object] = err
	})
}

func (g *given) set(change func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	change()
}

// until waits for something.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not %s in 10 s", what)
		}
	}
}

// found waits until so many objects were verified, and so many of them were damaged.
func found(t *testing.T, c *Cache, verified, mismatched int64) {
	t.Helper()
	until(t, "verified", func() bool {
		s := c.Stats()
		return s.Verified+s.Mismatched >= verified+mismatched
	})
	if s := c.Stats(); s.Verified != verified || s.Mismatched != mismatched {
		t.Errorf("%d verified and %d damaged, want %d and %d", s.Verified, s.Mismatched, verified, mismatched)
	}
}

// Catches another checksum than S3 means, which the check value of its specification tells.
func TestCRC64NVME(t *testing.T) {
	if got := crc64.Checksum([]byte("123456789"), CRC64NVME); got != 0xae8b14860a799888 {
		t.Errorf("got %x", got)
	}
}

// ways are the caches that read an object's bytes: from memory, disk and a source that brings a prefix, and
// from files.
func ways(objects map[string][]byte) map[string]func(*testing.T, Config) (*Cache, *remote) {
	return map[string]func(*testing.T, Config) (*Cache, *remote){
		"memory": func(t *testing.T, cfg Config) (*Cache, *remote) {
			src := newRemote(objects)
			return newPaged(t, src, cfg), src
		},
		"disk": func(t *testing.T, cfg Config) (*Cache, *remote) {
			src := newRemote(objects)
			cfg.Disk, cfg.Memory = newDisk(t, t.TempDir()), leastMemory // less than the largest object
			return newPaged(t, src, cfg), src
		},
		"files": func(t *testing.T, cfg Config) (*Cache, *remote) {
			return newCache(t, newDir(t, objects), cfg), nil
		},
	}
}

// Catches an object that is read whole and not verified, or more than once, or before all of it was read,
// whatever the order of the reads; the wrong object's checksum; and bytes asked for a second time that are here.
func TestVerifyRight(t *testing.T) {
	objects := map[string][]byte{"a": noise(5<<20+77, 1), "b": noise(40_000, 2), "c": noise(1<<20, 3), "without": noise(20_000, 4)}
	for name, open := range ways(objects) {
		t.Run(name, func(t *testing.T) {
			g := newGiven()
			g.crc("a", objects["a"])
			g.sha("b", objects["b"])
			g.sums["c"] = Sums{CRC64NVME: crcOf(objects["c"]), SHA256: shaOf(objects["c"])}
			c, _ := open(t, Config{Verify: g.verification()})
			g.listen(t, c)
			var held []*Object
			for name, data := range objects {
				o := mustOpen(t, c, name)
				held = append(held, o)
				// All but one page more than may be left.
				most := int(pagesIn(int64(len(data)))-mayBeLeft(int64(len(data)))-1) * pageSize
				var readers sync.WaitGroup
				for range 3 {
					order := rand.Perm(most/5000 + 1)
					readers.Go(func() {
						for _, i := range order {
							from, to := i*5000, min(i*5000+5000, most)
							if !bytes.Equal(readAt(t, o, int64(from), to-from), data[from:to]) {
								t.Error("other bytes")
							}
						}
					})
				}
				readers.Wait()
			}
			time.Sleep(20 * time.Millisecond)
			if s := c.Stats(); s.Verified+s.Mismatched+s.WithoutChecksum > 0 || len(g.asked) > 0 {
				t.Errorf("verified before they are read whole: %+v", s)
			}
			for _, o := range held {
				size := o.Info().Size
				if err := o.ReadRanges(t.Context(), []source.Range{{Off: 1, P: nil}, {Off: size - 1, P: make([]byte, 1)}, {Off: size}}); err != nil {
					t.Error(err)
				}
			}
			found(t, c, 3, 0)
			until(t, "all done", func() bool { return c.Stats().WithoutChecksum == 1 })
			for _, o := range held {
				readAt(t, o, 0, int(o.Info().Size))
				if err := o.Check(t.Context()); err != nil {
					t.Error(err)
				}
				o.Release()
			}
			time.Sleep(20 * time.Millisecond)
			if slices.Sort(g.asked); !slices.Equal(g.asked, []string{"a", "b", "c", "without"}) || c.Stats().Verified != 3 || len(g.told) > 0 {
				t.Errorf("asked for %q, told of %v, %+v", g.asked, g.told, c.Stats())
			}
		})
	}
}

func crcOf(data []byte) *uint64 { sum := crc64.Checksum(data, CRC64NVME); return &sum }
func shaOf(data []byte) []byte  { sum := sha256.Sum256(data); return sum[:] }

// Catches bytes that are asked for again to be summed although memory or the disk has them, and what neither has
// left out.
func TestVerifyFetches(t *testing.T) {
	data := noise(6<<20, 1)
	for name, test := range map[string]struct {
		memory int64
		disk   bool
		again  bool
	}{"memory": {32 << 20, false, false}, "disk": {leastMemory, true, false}, "neither": {leastMemory, false, true}} {
		t.Run(name, func(t *testing.T) {
			g, src := newGiven(), newRemote(map[string][]byte{"a": data})
			g.crc("a", data)
			cfg := Config{Memory: test.memory, Verify: g.verification()}
			if test.disk {
				cfg.Disk = newDisk(t, t.TempDir())
			}
			c := newPaged(t, src, cfg)
			if test.disk {
				if _, err := c.Warm(t.Context(), "a", nil); err != nil {
					t.Fatal(err)
				}
			}
			o := mustOpen(t, c, "a")
			defer o.Release()
			g.mu.Lock() // keeps it from being summed
			readAt(t, o, 0, len(data))
			c.fetching.Wait()
			before := src.requests.Load()
			g.mu.Unlock()
			found(t, c, 1, 0)
			if n := src.requests.Load() - before; n > 0 != test.again {
				t.Errorf("%d requests", n)
			}
		})
	}
}

// Catches a damaged object that is read on, from memory or disk, by those who have it open or open it later, or
// whose fault is told as another, or twice; one that is damaged for ever although it was replaced; and others
// that suffer with it.
func TestVerifyDamaged(t *testing.T) {
	data := noise(2<<20+5, 1)
	objects := map[string][]byte{"crc": data, "sha": noise(300_000, 2), "right": noise(300_000, 3)}
	for name, open := range ways(objects) {
		t.Run(name, func(t *testing.T) {
			g := newGiven()
			g.crc("crc", noise(100, 9))
			g.sha("sha", noise(100, 9))
			g.crc("right", objects["right"])
			c, src := open(t, Config{Verify: g.verification()})
			g.listen(t, c)
			held := map[string]*Object{}
			for name, data := range objects {
				o := mustOpen(t, c, name)
				defer o.Release()
				held[name] = o
				readAt(t, o, 0, len(data))
			}
			found(t, c, 1, 2)
			fails := func(err error) {
				t.Helper()
				if !errors.Is(err, ErrDamaged) || errors.Is(err, source.ErrChanged) || strings.Contains(err.Error(), "\n") {
					t.Errorf("%v", err)
				}
			}
			for name, says := range map[string]string{"crc": "CRC64NVME", "sha": "SHA-256"} {
				o, p := held[name], make([]byte, 100)
				fails(o.ReadAt(t.Context(), p, 5))
				fails(o.ReadRanges(t.Context(), []source.Range{{Off: 5, P: p}}))
				fails(o.Check(t.Context()))
				again := mustOpen(t, c, name)
				fails(again.ReadAt(t.Context(), p, 5))
				again.Release()
				c.Forget()
				again = mustOpen(t, c, name) // as it is still
				fails(again.ReadAt(t.Context(), p, 5))
				again.Release()
				until(t, "told", func() bool { g.mu.Lock(); defer g.mu.Unlock(); return g.told[name] != nil })
				if err := g.told[name]; err.Error() != o.ReadAt(t.Context(), p, 5).Error() || !strings.Contains(err.Error(), says) {
					t.Errorf("told %v", err)
				}
			}
			readAt(t, held["right"], 0, 100)
			if c.disk != nil {
				// What waited to be written then is taken back.
				until(t, "gone from disk", func() bool { _, known := c.disk.Known(src.String(), "crc"); return !known })
			}
			if c.pages != nil {
				c.pages.mu.Lock()
				for _, k := range c.pages.kept.Keys() {
					if k.of.info.Size == int64(len(data)) {
						t.Error("it is kept in memory still")
						break
					}
				}
				c.pages.mu.Unlock()
			}
			if src == nil {
				return
			}
			// It is repaired, and read anew.
			g.set(func() { g.crc("crc", data) })
			src.Put("crc", data)
			c.Forget()
			o := mustOpen(t, c, "crc")
			defer o.Release()
			if !bytes.Equal(readAt(t, o, 0, len(data)), data) {
				t.Error("other bytes")
			}
			found(t, c, 2, 2)
		})
	}
}

// Catches a checksum that cannot be had, or bytes that cannot, taken for a verdict, and an object that is never
// verified because of it; a verdict on another state than was read; and an object larger than any tile that takes
// memory.
func TestVerifyLater(t *testing.T) {
	data := noise(200_000, 1)
	src := newRemote(map[string][]byte{"a": data, "b": data})
	g := newGiven()
	g.crc("a", data)
	g.crc("b", data)
	g.fails = errors.New("no answer")
	c := newPaged(t, src, Config{Verify: g.verification()})
	o := mustOpen(t, c, "a")
	defer o.Release()
	asked := func(n int) func() bool {
		return func() bool { g.mu.Lock(); defer g.mu.Unlock(); return len(g.asked) == n }
	}
	readAt(t, o, 0, len(data))
	until(t, "asked for", asked(1))
	until(t, "unsettled", func() bool { return !o.state.settled.Load() })
	g.set(func() { g.fails = nil })
	readAt(t, o, 0, 100_000)
	readAt(t, o, 100_000, 100_000)
	found(t, c, 1, 0)

	// b is another when its turn comes.
	wait := make(chan struct{})
	b := mustOpen(t, c, "b")
	defer b.Release()
	c.verifier.cfg.Sums = func(context.Context, []string) ([]Sums, error) { <-wait; return []Sums{{CRC64NVME: new(uint64)}}, nil }
	readAt(t, b, 0, len(data))
	src.Put("b", noise(200_000, 2))
	c.Forget()
	close(wait)
	until(t, "looked at", func() bool { c.verifier.mu.Lock(); defer c.verifier.mu.Unlock(); return len(c.verifier.queue) == 0 })
	time.Sleep(20 * time.Millisecond)
	if s := c.Stats(); s.Mismatched != 0 || s.Verified != 1 {
		t.Errorf("another state: %+v", s)
	}
	huge := &Object{cache: c, name: "huge", state: &state{info: source.Info{Size: 1 << 50}}}
	c.verifier.saw(huge, source.Range{Off: 1 << 49, P: make([]byte, 10)})
	if !huge.state.settled.Load() || c.verifier.read.Contains(huge.state) {
		t.Error("what is read of a huge object is tracked")
	}
}

// Catches objects read in part that take memory without end.
func TestVerifyForgets(t *testing.T) {
	c := newCache(t, newRemote(nil), Config{Verify: newGiven().verification()})
	for range trackedStates + 10 {
		o := &Object{cache: c, state: &state{info: source.Info{Size: 10 * pageSize}}}
		c.verifier.saw(o, source.Range{Off: pageSize, P: make([]byte, 10)})
	}
	if n := c.verifier.read.Len(); n != trackedStates {
		t.Errorf("%d objects are tracked", n)
	}
}

// Catches a Close that waits for all of an object to be summed, and a goroutine that outlives it (TestMain).
func TestVerifyEnds(t *testing.T) {
	data := noise(8<<20, 1)
	g := newGiven()
	g.crc("a", data)
	c := New(newRemote(map[string][]byte{"a": data}), Config{Memory: 32 << 20, Verify: g.verification()})
	o := mustOpen(t, c, "a")
	readAt(t, o, 0, len(data))
	o.Release()
	began := time.Now()
	if err := c.Close(); err != nil || time.Since(began) > time.Second {
		t.Errorf("%v after %v", err, time.Since(began))
	}
	select {
	case <-c.verifier.ended:
	default:
		t.Error("Close did not wait for it")
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}
