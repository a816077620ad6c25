package tilecache

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/tesserafs/tesserafs/tilecache/source"
)

// simSource is a source that takes time, in the bubble of synctest: each request the latency, then
// its bytes at the bandwidth of a connection, where so many are under way at once and share one line.
// Its objects are of any size, and take no memory.
type simSource struct {
	pace    source.Pace
	line    float64          // bytes a second of all connections together; 0: they do not share one
	objects map[string]int64 // sizes
	fails   atomic.Pointer[error]
	changed atomic.Bool

	slots           *semaphore.Weighted
	requests, bytes atomic.Int64
	mu              sync.Mutex
	lineFree        time.Time
}

func newSim(pace source.Pace, line float64, objects map[string]int64) *simSource {
	return &simSource{pace: pace, line: line, objects: objects, slots: semaphore.NewWeighted(int64(pace.Connections))}
}

func (s *simSource) String() string { return "simulation" }

func (s *simSource) List(context.Context, string, bool) ([]source.Entry, error) { return nil, nil }

func (s *simSource) Open(ctx context.Context, name string) (source.Object, error) {
	if err := s.request(ctx, 32<<10); err != nil {
		return nil, err
	}
	size, ok := s.objects[name]
	if !ok {
		return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	o := &simObject{s: s, name: name, size: size, prefix: make([]byte, min(size, 32<<10))}
	simBytes(o.prefix, 0)
	return o, nil
}

// request takes the time that so many bytes take.
func (s *simSource) request(ctx context.Context, bytes int64) error {
	if err := s.slots.Acquire(ctx, 1); err != nil {
		return err
	}
	defer s.slots.Release(1)
	s.requests.Add(1)
	if err := s.begin(ctx); err != nil {
		return err
	}
	s.bytes.Add(bytes)
	return sleep(ctx, s.reserve(time.Now(), bytes))
}

// begin takes the time until the first byte.
func (s *simSource) begin(ctx context.Context) error {
	if err := sleep(ctx, s.pace.Latency); err != nil {
		return err
	}
	if err := s.fails.Load(); err != nil {
		return *err
	}
	return nil
}

// reserve is how long so many bytes take, on a connection and on the line after those asked for before.
func (s *simSource) reserve(now time.Time, bytes int64) time.Duration {
	ready := now.Add(time.Duration(float64(bytes) / s.pace.Bandwidth * 1e9))
	if s.line > 0 {
		s.mu.Lock()
		if s.lineFree.Before(now) {
			s.lineFree = now
		}
		s.lineFree = s.lineFree.Add(time.Duration(float64(bytes) / s.line * 1e9))
		if s.lineFree.After(ready) {
			ready = s.lineFree
		}
		s.mu.Unlock()
	}
	return ready.Sub(now)
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

type simObject struct {
	s      *simSource
	name   string
	size   int64
	prefix []byte
}

func (o *simObject) Info() source.Info           { return source.Info{Size: o.size, ETag: `"1"`} }
func (o *simObject) Prefix() []byte              { return o.prefix }
func (o *simObject) Check(context.Context) error { return nil }
func (o *simObject) Close() error                { return nil }

func (o *simObject) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if err := o.s.request(ctx, int64(len(p))); err != nil {
		return 0, fmt.Errorf("%s: %w", o.name, err)
	}
	if o.s.changed.Load() {
		return 0, fmt.Errorf("%s: %w", o.name, source.ErrChanged)
	}
	if off < 0 || off+int64(len(p)) > o.size {
		return 0, fmt.Errorf("%s: %w", o.name, io.ErrUnexpectedEOF)
	}
	simBytes(p, off)
	return len(p), nil
}

// Stream is one request, which has its share of the line from when it is asked, and whose bytes come evenly over the time
// that gives.
func (o *simObject) Stream(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	if err := o.s.slots.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	o.s.requests.Add(1)
	if err := o.s.begin(ctx); err != nil {
		o.s.slots.Release(1)
		return nil, fmt.Errorf("%s: %w", o.name, err)
	}
	if o.s.changed.Load() { // which is looked at once
		o.s.slots.Release(1)
		return nil, fmt.Errorf("%s: %w", o.name, source.ErrChanged)
	}
	now := time.Now()
	return &simStream{o: o, ctx: ctx, off: off, begin: off, end: off + n, began: now, took: o.s.reserve(now, n)}, nil
}

type simStream struct {
	o               *simObject
	ctx             context.Context
	off, begin, end int64
	began           time.Time
	took            time.Duration // until its last byte
}

func (s *simStream) Read(p []byte) (int, error) {
	if s.off == s.end {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), s.end-s.off)]
	s.o.s.bytes.Add(int64(len(p)))
	off := s.off
	s.off += int64(len(p))
	came := s.began.Add(time.Duration(float64(s.took) * float64(s.off-s.begin) / float64(s.end-s.begin)))
	if err := sleep(s.ctx, time.Until(came)); err != nil {
		return 0, err
	}
	simBytes(p, off)
	return len(p), nil
}

func (s *simStream) Close() error {
	s.o.s.slots.Release(1)
	return nil
}

// simPattern repeats every 65,521 bytes, a prime: no two pages of an object are alike.
var simPattern = func() []byte {
	p := make([]byte, 65_521)
	for i := range p {
		p[i] = byte(i*7 + i>>8*31 + i>>13)
	}
	return p
}()

// simBytes fills p with the bytes of every object from an offset on.
func simBytes(p []byte, off int64) {
	for at := int(off % int64(len(simPattern))); len(p) > 0; at = 0 {
		p = p[copy(p, simPattern[at:]):]
	}
}

// simCheck reports bytes that are not those from an offset on: of long pieces, at both ends.
func simCheck(t *testing.T, p []byte, off int64) {
	const ends = 512
	var want [ends]byte
	for _, at := range []int{0, max(0, len(p)-ends)} {
		got := p[at:min(len(p), at+ends)]
		simBytes(want[:len(got)], off+int64(at))
		if !bytes.Equal(got, want[:len(got)]) {
			t.Errorf("other bytes at %d", off+int64(at))
		}
	}
}

// The archive of the simulations: 2 × 2 tiles side by side.
const (
	simTile   = 1100          // pixels a side
	simRow    = simTile * 128 // bytes
	simHeader = 128           // likewise
	simSize   = simHeader + simTile*simRow
)

func simTiles() map[string]int64 {
	tiles := make(map[string]int64)
	for i := range 4 {
		tiles[simName(i/2, i%2)] = simSize
	}
	return tiles
}

func simName(row, col int) string { return fmt.Sprintf("tile %d %d", row, col) }

// readRect reads the pixels of a rectangle as a mosaic does: of all tiles at once, the rows of each
// together.
func readRect(t *testing.T, c *Cache, row0, row1, col0, col1 int) {
	var tiles sync.WaitGroup
	for tr := row0 / simTile; tr*simTile < row1; tr++ {
		for tc := col0 / simTile; tc*simTile < col1; tc++ {
			tiles.Go(func() {
				o, err := c.Open(t.Context(), simName(tr, tc))
				if err != nil {
					t.Error(err)
					return
				}
				defer o.Release()
				var ranges []source.Range
				c0, c1 := max(col0-tc*simTile, 0), min(col1-tc*simTile, simTile)
				for r := max(row0-tr*simTile, 0); r < min(row1-tr*simTile, simTile); r++ {
					ranges = append(ranges, source.Range{Off: int64(simHeader + r*simRow + c0*128), P: make([]byte, (c1-c0)*128)})
				}
				if err := o.ReadRanges(t.Context(), ranges); err != nil {
					t.Error(err)
				}
				for _, r := range ranges {
					simCheck(t, r.P, r.Off)
				}
			})
		}
	}
	tiles.Wait()
}
