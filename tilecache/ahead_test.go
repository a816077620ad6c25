package tilecache

import (
	"cmp"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tesserafs/tesserafs/tilecache/source"
)

// The source of the simulations: what a gateway on loopback gives, 30 ms away.
var simPace = source.Pace{Latency: 30 * time.Millisecond, Bandwidth: 300e6, Connections: 64}

const simLine = 1e9

// inSim runs a test against a simulated archive of 2 × 2 tiles.
func inSim(t *testing.T, memory int64, run func(t *testing.T, src *simSource, c *Cache)) {
	synctest.Test(t, func(t *testing.T) {
		src := newSim(simPace, simLine, simTiles())
		run(t, src, newPaged(t, src, Config{Memory: memory, Pace: func() source.Pace { return simPace }}))
	})
}

// cost reports what reads of so many bytes of strips took: time beyond that of their bytes, in round
// trips, and bytes fetched.
func cost(t *testing.T, src *simSource, c *Cache, took time.Duration, strips int64) (roundTrips, bytes float64) {
	least := time.Duration(float64(strips) / simLine * float64(time.Second))
	roundTrips = (took - least).Seconds() / simPace.Latency.Seconds()
	bytes = float64(src.bytes.Load()) / float64(strips)
	s := c.Stats()
	t.Logf("%v: %.1f round trips and the %v of %d MB; %d requests, %.2f of the bytes fetched; %d MB read ahead, %d MB of that used",
		took, roundTrips, least, strips>>20, src.requests.Load(), bytes, s.AheadBytes>>20, s.AheadBytesUsed>>20)
	return roundTrips, bytes
}

// usualCost is the median of what five runs took: which of many readers comes first is chance.
func usualCost(t *testing.T, run func(t *testing.T, src *simSource, c *Cache) (roundTrips, bytes float64)) (roundTrips, bytes float64, requests int64) {
	type took struct {
		trips, bytes float64
		requests     int64
	}
	var all []took
	for range 5 {
		inSim(t, 512<<20, func(t *testing.T, src *simSource, c *Cache) {
			trips, bytes := run(t, src, c)
			all = append(all, took{trips, bytes, src.requests.Load()})
		})
	}
	slices.SortFunc(all, func(a, b took) int { return cmp.Compare(a.trips, b.trips) })
	middle := all[len(all)/2]
	return middle.trips, middle.bytes, middle.requests
}

// A window of 1,000 × 1,000 pixels over 2 × 2 tiles of the consolidated store: 16 × 16 inner chunks of
// 64 pixels, in order of rows, ten at once. Catches read-ahead that does not see a strip of rows
// in reads of 64 short ranges, waits for the end of a window before it asks for the next, or runs away.
func TestWindowOfInnerChunks(t *testing.T) {
	trips, bytes, _ := usualCost(t, func(t *testing.T, src *simSource, c *Cache) (float64, float64) {
		start := time.Now()
		type chunk struct{ row, col int }
		chunks := make(chan chunk)
		var readers sync.WaitGroup
		for range 10 {
			readers.Go(func() {
				for at := range chunks {
					readRect(t, c, at.row, at.row+64, at.col, at.col+64)
				}
			})
		}
		for row := 576; row < 1600; row += 64 {
			for col := 576; col < 1600; col += 64 {
				chunks <- chunk{row, col}
			}
		}
		close(chunks)
		readers.Wait()
		// Two rows of tiles are opened and begun one after the other: four of the round trips.
		return cost(t, src, c, time.Since(start), 1024*2*simRow)
	})
	if trips > 6 || bytes > 1.3 {
		t.Error("want at most 6 round trips, and 1.3 times the bytes")
	}
}

// The same window as zarr-python reads it since 3.4: inner chunks that lie side by side in the shard are one
// read, of which the kernel makes requests of a MiB, two inner chunks; six threads have a row of them
// each. Catches the few columns of a tile at the window's edge taken for points, and rows that come one by
// one for that, each chunk leaving gaps that are too wide to join for the next.
func TestWindowOfRowsOfInnerChunks(t *testing.T) {
	trips, bytes, requests := usualCost(t, func(t *testing.T, src *simSource, c *Cache) (float64, float64) {
		start := time.Now()
		rows := make(chan int)
		var readers sync.WaitGroup
		for range 6 {
			readers.Go(func() {
				for row := range rows {
					for col := 528; col < 1552; col += 128 { // The right tiles begin with 4 columns of an inner chunk.
						readRect(t, c, row, row+64, col, col+64)
						readRect(t, c, row, row+64, col+64, col+128)
					}
				}
			})
		}
		for row := 576; row < 1600; row += 64 {
			rows <- row
		}
		close(rows)
		readers.Wait()
		return cost(t, src, c, time.Since(start), 1024*2*simRow)
	})
	if trips > 7 || bytes > 1.3 || requests > 200 {
		t.Error("want about 6 round trips, at most 1.3 times the bytes, and 200 requests")
	}
}

// The same window as four chunk files of 1,024 × 1,024 pixels, each of which the kernel reads by
// requests of a MiB, 8 rows, one after another. Catches streams that starve one another, and one reader
// in a tile taken for another.
func TestWindowOfChunkFiles(t *testing.T) {
	trips, bytes, _ := usualCost(t, func(t *testing.T, src *simSource, c *Cache) (float64, float64) {
		const offset = 40 // so that all four need more than one tile
		start := time.Now()
		var readers sync.WaitGroup
		for i := range 4 {
			readers.Go(func() {
				row, col := offset+i/2*1024, offset+i%2*1024
				for r := row; r < row+1024; r += 8 {
					readRect(t, c, r, r+8, col, col+1024)
				}
			})
		}
		readers.Wait()
		return cost(t, src, c, time.Since(start), 2048*2*simRow)
	})
	if trips > 6 || bytes > 1.3 {
		t.Error("want at most 6 round trips, and 1.3 times the bytes")
	}
}

// Catches streams that take all room from others: four readers of two tiles, with memory for a fraction
// of what they read. (Where two drift apart their tile is fetched twice.)
func TestChunkFilesWithLittleMemory(t *testing.T) {
	inSim(t, 64<<20, func(t *testing.T, src *simSource, c *Cache) {
		start := time.Now()
		var readers sync.WaitGroup
		for i := range 4 {
			readers.Go(func() {
				for r := 0; r < 600; r += 8 {
					readRect(t, c, r, r+8, i*500, i*500+400)
				}
			})
		}
		readers.Wait()
		if trips, bytes := cost(t, src, c, time.Since(start), 600*2*simRow); trips > 45 || bytes > 2.2 {
			t.Error("75 reads in order took about as many round trips")
		}
	})
}

// Catches a stream that takes for asked what has been evicted since, and so pays a round trip for each
// read.
func TestWindowThatWasEvicted(t *testing.T) {
	inSim(t, 64<<20, func(t *testing.T, src *simSource, c *Cache) {
		o, other := mustOpen(t, c, simName(0, 0)), mustOpen(t, c, simName(0, 1))
		defer o.Release()
		defer other.Release()
		for i := range int64(4) {
			readAt(t, o, (10+i)<<20, 1<<20)
		}
		for i := range int64(60) {
			readAt(t, other, i<<20, 1<<20)
		}
		start := time.Now()
		for i := range int64(12) {
			readAt(t, o, (14+i)<<20, 1<<20)
		}
		if trips, _ := cost(t, src, c, time.Since(start), 12<<20); trips > 6 {
			t.Error("12 reads in order")
		}
	})
}

// Catches more than two pages fetched for a point, and read-ahead of points, also of those that come
// in order of rows.
func TestPointsReadNothingAhead(t *testing.T) {
	inSim(t, 64<<20, func(t *testing.T, src *simSource, c *Cache) {
		rng := rand.New(rand.NewPCG(1, 2))
		o := mustOpen(t, c, simName(0, 0))
		defer o.Release()
		opened := src.bytes.Load()
		const points = 300
		for i := range points {
			row := rng.IntN(simTile)
			if i%2 == 0 {
				row = i * simTile / points
			}
			off := int64(simHeader + row*simRow + rng.IntN(simTile-1)*128)
			simCheck(t, readAt(t, o, off, 128), off)
			simCheck(t, readAt(t, o, off+128, 128), off+128) // its neighbour
		}
		if s := c.Stats(); s.AheadBytes != 0 || src.bytes.Load()-opened > points*2*pageSize || s.Requests > points {
			t.Errorf("%d bytes fetched for %d points; %+v", src.bytes.Load()-opened, points, s)
		}
		o = mustOpen(t, c, simName(0, 1))
		defer o.Release()
		before := src.bytes.Load()
		for i := range 10 { // 20 points together, in order of rows
			var together []source.Range
			for row := 5 * i; row < simTile; row += 55 {
				together = append(together, source.Range{Off: int64(simHeader + row*simRow + rng.IntN(simTile)*128), P: make([]byte, 128)})
			}
			if err := o.ReadRanges(t.Context(), together); err != nil {
				t.Fatal(err)
			}
		}
		if s := c.Stats(); s.AheadBytes != 0 || src.bytes.Load()-before > 200*2*pageSize {
			t.Errorf("%d bytes fetched for 200 points; %+v", src.bytes.Load()-before, s)
		}
	})
}

// Catches read-ahead for blocks at random.
func TestBlocksAtRandomReadLittleAhead(t *testing.T) {
	inSim(t, 256<<20, func(t *testing.T, src *simSource, c *Cache) {
		rng := rand.New(rand.NewPCG(3, 4))
		for range 60 {
			row, col := rng.IntN(simTile-64), rng.IntN(simTile-64)
			readRect(t, c, row, row+64, col, col+64)
		}
		if s := c.Stats(); s.AheadBytes > s.BytesFetched/5 {
			t.Errorf("%d MB read ahead, of %d MB", s.AheadBytes>>20, s.BytesFetched>>20)
		}
	})
}

// Catches small reads in order that pay a round trip each.
func TestSmallReadsInOrder(t *testing.T) {
	inSim(t, 64<<20, func(t *testing.T, src *simSource, c *Cache) {
		o := mustOpen(t, c, simName(0, 0))
		defer o.Release()
		start := time.Now()
		for off := int64(1 << 20); off < 33<<20; off += 4096 {
			simCheck(t, readAt(t, o, off, 4096), off)
		}
		if trips, _ := cost(t, src, c, time.Since(start), 32<<20); trips > 12 {
			t.Error("8,192 reads in order")
		}
		if used := c.Stats().AheadBytesUsed; used < 30<<20 || used > 32<<20 {
			t.Errorf("%d bytes of those read ahead were used", used)
		}
	})
}

// Catches read-ahead that goes on asking a source that fails, and that does not begin again.
func TestNoReadAheadFromAFailingSource(t *testing.T) {
	inSim(t, 64<<20, func(t *testing.T, src *simSource, c *Cache) {
		o := mustOpen(t, c, simName(0, 0))
		defer o.Release()
		read := func(off int64) error { return o.ReadAt(t.Context(), make([]byte, 1<<20), off) }
		if err := errors.Join(read(10<<20), read(11<<20), read(12<<20)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		time.Sleep(time.Second)
		boom := errors.Join(errors.New("boom"), source.ErrUnavailable)
		src.fails.Store(&boom)
		if err := read(100 << 20); !errors.Is(err, boom) {
			t.Errorf("%v", err)
		}
		before := src.requests.Load()
		for i := range int64(5) {
			if err := read((101 + i) << 20); !errors.Is(err, boom) {
				t.Errorf("%v", err)
			}
		}
		// A MiB is one request or a few.
		if n := src.requests.Load() - before; n > 5*4 {
			t.Errorf("%d requests for 5 reads", n)
		}
		src.fails.Store(nil)
		start := time.Now()
		for i := range int64(20) {
			if err := read((101 + i) << 20); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(start); took > 15*simPace.Latency {
			t.Errorf("20 reads in order took %v afterwards", took)
		}
	})
}

// Catches read-ahead that keeps a wanted page waiting behind it: with a line that is busy with what was
// asked for ahead, a request that is wanted has a connection all the same.
func TestReadAheadLeavesConnections(t *testing.T) {
	for _, connections := range []int{2, 4, 16, 64} {
		synctest.Test(t, func(t *testing.T) {
			pace := source.Pace{Latency: 30 * time.Millisecond, Bandwidth: 10e6, Connections: connections}
			src := newSim(pace, 0, simTiles())
			c := newPaged(t, src, Config{Memory: 256 << 20, Pace: func() source.Pace { return pace }})
			a, b := mustOpen(t, c, simName(0, 0)), mustOpen(t, c, simName(0, 1))
			defer a.Release()
			defer b.Release()
			for i := range int64(4) {
				readAt(t, a, (10+i)<<20, 1<<20)
			}
			start := time.Now()
			readAt(t, b, 50<<20, 100)
			if took := time.Since(start); took > 40*time.Millisecond {
				t.Errorf("%d connections: a page that is wanted took %v while others are read ahead", connections, took)
			}
		})
	}
}

// Catches what is expected and fetched all the same when it is read, or not at all, or fills a narrow line for long although
// nobody has asked for it.
func TestExpect(t *testing.T) {
	for _, test := range []struct {
		pace  source.Pace
		least int64 // bytes that are fetched of 20 MiB
		most  int64
	}{
		{simPace, 20 << 20, 20 << 20},
		{source.Pace{Latency: 30 * time.Millisecond, Bandwidth: 0.5e6, Connections: 4}, 1 << 20, 2e6 + pageSize},
	} {
		synctest.Test(t, func(t *testing.T) {
			src := newSim(test.pace, 0, simTiles())
			c := newPaged(t, src, Config{Memory: 512 << 20, Pace: func() source.Pace { return test.pace }})
			o := mustOpen(t, c, simName(0, 0))
			defer o.Release()
			before := src.bytes.Load()
			o.Expect(10<<20, 20<<20)
			o.Expect(10<<20, 1<<20) // again
			time.Sleep(time.Minute)
			n := src.bytes.Load() - before
			if n < test.least || n > test.most {
				t.Errorf("%+v: %d bytes are fetched", test.pace, n)
			}
			readAt(t, o, 10<<20, 1<<20)
			if s := c.Stats(); s.SourcePages*pageSize != n || s.AheadBytesUsed < 1<<20 {
				t.Errorf("%+v: read, it is fetched again: %+v", test.pace, s)
			}
			for _, r := range [][2]int64{{-1, 10}, {0, 0}, {simSize, 10}, {simSize + 1, 1}, {0, -1}} {
				o.Expect(r[0], r[1])
			}
		})
	}
}

// Catches windows that count for ever because nobody wants the rest of them, and so end all
// read-ahead.
func TestWindowsThatAreLeft(t *testing.T) {
	inSim(t, 512<<20, func(t *testing.T, src *simSource, c *Cache) {
		for i := range int64(20) { // each begins a stream and leaves it
			o := mustOpen(t, c, simName(int(i)%2, 0))
			for j := range int64(5) {
				readAt(t, o, i/2*14<<20+j<<20, 1<<20)
			}
			o.Release()
		}
		synctest.Wait()
		if most := c.pages.count / 2 * pageSize; c.pages.unused*pageSize > most || c.pages.unused*pageSize < most/2 {
			t.Errorf("%d bytes are read ahead, %d may be", c.pages.unused*pageSize, most)
		}
		time.Sleep(2 * staleAfter)
		before := c.Stats().AheadBytes
		other := mustOpen(t, c, simName(1, 1))
		defer other.Release()
		for j := range int64(8) {
			readAt(t, other, j<<20, 1<<20)
		}
		time.Sleep(time.Second) // Pages count as they land.
		if ahead := c.Stats().AheadBytes - before; ahead < 8<<20 {
			t.Errorf("%d bytes are read ahead afterwards", ahead)
		}
	})
}

// Catches windows that count although the stream has left them behind: of rows of which it wants a part
// only, the rest is never used.
func TestWindowsThatArePassed(t *testing.T) {
	inSim(t, 64<<20, func(t *testing.T, src *simSource, c *Cache) {
		start := time.Now()
		for row := 0; row < simTile; row += 8 {
			readRect(t, c, row, min(row+8, simTile), 100, 400)
		}
		if trips, _ := cost(t, src, c, time.Since(start), simTile*simRow); trips > 18 {
			t.Error("138 reads in order")
		}
	})
}
