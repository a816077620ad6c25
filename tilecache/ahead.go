package tilecache

import (
	"sync"
	"time"

	"github.com/tesserafs/tesserafs/tilecache/disk"
)

const (
	// trackedStreams is how many readers of one object are told apart.
	trackedStreams = 4

	// longRead and shortReads: one read of so many bytes that carries on where another ended is taken
	// for a stream, of shorter ones so many in a row.
	longRead   = 64 << 10
	shortReads = 3

	// leastRows is how many ranges, each as far from the one before, are taken for rows of a window.
	leastRows = 4

	// sparseGap is from which distance of ranges on a window is sparse: pages on disk are not read ahead
	// then, as most of them might not be wanted and the others are near.
	sparseGap = 64 << 10

	// widestWindow is how many pages a stream reads ahead at most.
	widestWindow = 32 << 20 / pageSize

	// sparseWindow is how many pages are read ahead at most of rows that are far apart, or twice those of the
	// read: of whole rows a part is wanted, and it may be the window's last strip.
	sparseWindow = 12 << 20 / pageSize

	// staleAfter is when pages that were read ahead and not used no longer keep others from being
	// read ahead.
	staleAfter = 5 * time.Second
)

// extent is what a read covers, in bytes of its object.
type extent struct {
	begin, end int64
	last       int64 // where its last range begins
	step       int64 // the farthest from the beginning of one range to that of the next; of one range, its length
	gap        int64 // the widest between two ranges
	ranges     int
	uneven     bool // from one beginning to the next it is not always as far
}

func (x *extent) add(begin, end int64) {
	x.ranges++
	if x.ranges == 1 {
		*x = extent{begin: begin, end: end, last: begin, step: end - begin, ranges: 1}
		return
	}
	x.gap = max(x.gap, begin-x.end)
	x.uneven = x.uneven || x.ranges > 2 && begin-x.last != x.step
	x.step = max(x.step, begin-x.last)
	x.last = begin
	x.begin, x.end = min(x.begin, begin), max(x.end, end)
}

func (x extent) bytes() int64 { return x.end - x.begin }

// rows says whether the ranges are the rows of a window, rather than points.
func (x extent) rows() bool { return x.ranges >= leastRows && !x.uneven }

// rowsEnd is where the row after the last would begin.
func (x extent) rowsEnd() int64 { return x.last + x.step }

// stream is a reader that goes through an object in one direction. It need not read all: the rows of a
// window that is narrower than its tile lie far from each other, and what moves on is the strip of
// rows. Nor need its reads come in order: several are under way at once.
type stream struct {
	last   extent    // of its reads, the one that came furthest
	streak int       // reads that carried it on
	sparse bool      // some of them were of rows that are far apart
	asked  int64     // the number of the page after the last that was asked for
	window int64     // how many pages to be ahead
	asks   []*window // those the stream has not gone through
	born   uint64    // when, by streams.clock; 0: no stream
	used   uint64    // likewise
}

// streams are the readers of one object.
type streams struct {
	mu     sync.Mutex // guards what follows
	list   [trackedStreams]stream
	clock  uint64
	asking bool // a reader is asking for a window
}

// follow notes a read, and gives the stream that it carries on, if it does. The caller holds ss.mu.
func (ss *streams) follow(x extent) *stream {
	ss.clock++
	oldest := &ss.list[0]
	for i := range ss.list {
		st := &ss.list[i]
		if st.born == 0 || !st.around(x) {
			if st.used < oldest.used {
				oldest = st
			}
			continue
		}
		st.used = ss.clock
		st.sparse = st.sparse || x.gap > sparseGap
		on := st.carriedOn(x)
		if x.end > st.last.end {
			st.last = x
		}
		if !on {
			return nil
		}
		st.streak++
		return st
	}
	*oldest = stream{last: x, sparse: x.gap > sparseGap, born: ss.clock, used: ss.clock}
	return nil
}

// around says whether a read lies where the stream's reads do: as far behind the furthest as those may
// that are under way at the same time, or not far beyond it.
func (st *stream) around(x extent) bool {
	reach := max(st.last.bytes(), x.bytes())
	return st.last.end-3*reach <= x.begin && x.begin <= st.last.end+reach
}

// carriedOn says whether a read begins where the furthest ended, up to a row of the tile before or
// behind that, or goes on with the same rows.
func (st *stream) carriedOn(x extent) bool {
	step := max(st.last.step, x.step)
	return x.begin != st.last.begin && (abs(x.begin-st.last.end) <= step || abs(x.begin-st.last.begin) < step)
}

func abs(n int64) int64 { return max(n, -n) }

// window is pages that were asked for together before anybody wanted them.
type window struct {
	sparse bool  // much of it may not be wanted
	end    int64 // the number after its last

	// Guarded by pageStore.mu.
	since  time.Time
	unused int64
	stale  bool // it no longer counts
}

// leaveWindow counts a page as read ahead no longer. The caller holds s.mu.
func (s *pageStore) leaveWindow(p *page) {
	if p.window != nil {
		p.window.shrink(s, 1)
		p.window = nil
	}
}

// newWindow is a window of up to so many pages: half of all pages are for all of them. It says
// how many there may be, and has places for them.
func (s *pageStore) newWindow(from, to int64, sparse bool) (w *window, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for len(s.windows) > 0 && (s.windows[0].unused == 0 || now.Sub(s.windows[0].since) > staleAfter) {
		s.windows[0].retire(s)
		s.windows = s.windows[1:]
	}
	n = min(to-from, (s.ahead-s.unused)/2)
	// Little at a time is many requests: rather none until there is room for one that is worth making.
	if n <= 0 || n < min(to-from, leastAhead, s.ahead/8) || !s.room.TryAcquire(n) {
		return nil, 0
	}
	w = &window{sparse: sparse, end: from + n, since: now, unused: n}
	s.unused += n
	s.windows = append(s.windows, w)
	return w, n
}

// grow makes the window larger for a read that has carried the stream on: at first it is what the
// source sends in the time it takes to answer, or two reads like this one.
func (st *stream) grow(limit, inFlight int64) {
	if st.window == 0 {
		st.window = max(pagesIn(inFlight), 2*pagesIn(st.last.bytes()), 1)
	} else {
		st.window *= 2
	}
	st.window = min(st.window, limit)
}

// due is the pages to ask for now: those of the window that were not asked for, once they are half of
// it or reach the object's end.
func (st *stream) due(size int64) (from, to int64) {
	front, end := pagesIn(st.last.end), pagesIn(size)
	from, to = max(st.asked, front), min(front+st.window, end)
	if to-from < (st.window+1)/2 && to < end {
		return from, from
	}
	return from, to
}

// pass ends the counting of windows that the stream has gone through: what it has not wanted of them
// it will not.
func (st *stream) pass(s *pageStore) {
	if len(st.asks) == 0 || st.asks[0].end > pagesIn(st.last.end) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(st.asks) > 0 && st.asks[0].end <= pagesIn(st.last.end) {
		st.asks[0].retire(s)
		st.asks = st.asks[1:]
	}
}

// shrink takes pages from a window that it was to have and does not. The caller holds s.mu.
func (w *window) shrink(s *pageStore, n int64) {
	if !w.stale {
		w.unused -= n
		s.unused -= n
	}
}

// retire ends the counting of a window. The caller holds s.mu.
func (w *window) retire(s *pageStore) {
	if !w.stale {
		w.stale = true
		s.unused -= w.unused
	}
}

// readAhead has pages fetched that will be wanted after this read, if it carries on a stream. It does
// not wait. missed says that the source was asked for some of the read's own pages.
func (o *Object) readAhead(x extent, missed bool) {
	c, ss := o.cache, &o.streams
	if x.gap > widestGap*pageSize {
		return // points
	}
	ss.mu.Lock()
	st := ss.follow(x)
	if st != nil {
		st.pass(c.pages)
		if missed { // What was asked for is gone again, or was not granted.
			st.asked = 0
		}
	}
	if st == nil || ss.asking || st.streak < shortReads && x.bytes() < longRead || c.failing.Load() || c.connections(true) == 0 {
		ss.mu.Unlock()
		return
	}
	inFlight := inFlight(c.paceNow())
	limit := c.mostAhead()
	if st.sparse {
		limit = min(limit, max(2*pagesIn(x.bytes()), sparseWindow))
	}
	st.grow(limit, inFlight)
	from, to := st.due(o.state.info.Size)
	if from >= to || x.gap > inFlight { // Rows that far apart are had for less one by one.
		ss.mu.Unlock()
		return
	}
	born, sparse := st.born, st.sparse
	ss.asking = true
	ss.mu.Unlock()

	reached := from
	w, places := c.pages.newWindow(from, to, sparse)
	if w != nil {
		reached = o.askAhead(x, from, from+places, w)
	}
	ss.mu.Lock()
	defer ss.mu.Unlock()
	ss.asking = false
	if reached > from && st.born == born {
		st.asked = reached
		st.asks = append(st.asks, w)
	}
}

// mostAhead is how many pages are asked for at once before they are wanted: never more than what the source sends in a second, as who
// wants something else waits behind it.
func (c *Cache) mostAhead() int64 {
	pace := c.paceNow()
	return min(c.windowLimit, 1+int64(pace.Bandwidth*float64(pace.Connections)/pageSize))
}

// Expect has a range fetched that is likely to be read soon, or as much of it as comes in a second, and as far as memory and
// connections are left for what nobody waits for. It does not wait, and says nothing of failures: the read will. Of objects that are
// read directly it does nothing, and of a range beyond the end.
func (o *Object) Expect(off, n int64) {
	c, size := o.cache, o.state.info.Size
	if c.pages == nil || off < 0 || n <= 0 || off >= size || c.failing.Load() || o.state.changed.Load() || o.damage() != nil {
		return
	}
	from, to := off/pageSize, pagesIn(min(size, off+min(n, size)))
	to = min(to, from+c.mostAhead())
	if o.keeps(from, to) || c.connections(true) == 0 || o.enter() != nil {
		return
	}
	defer c.reading.Done()
	if w, places := c.pages.newWindow(from, to, false); w != nil {
		o.askAhead(extent{}, from, from+places, w)
	}
}

// keeps says whether pages are in memory or under way.
func (o *Object) keeps(from, to int64) bool {
	s := o.cache.pages
	s.mu.Lock()
	defer s.mu.Unlock()
	for n := from; n < to; n++ {
		if !s.kept.Contains(pageKey{o.state, n}) {
			return false
		}
	}
	return true
}

// indexes are used again; those of reads are their batches'.
var indexes = sync.Pool{New: func() any { return new(disk.Index) }}

// notOnDisk is which of some pages, which ascend, are not there. It has the system read the others, if they will be needed.
func (o *Object) notOnDisk(numbers []int64, needed bool) (missing []int64) {
	if o.disk == nil {
		return numbers
	}
	index := indexes.Get().(*disk.Index)
	var kept []int64
	for _, n := range numbers {
		if o.disk.Keeps(index, n) {
			kept = append(kept, n)
		} else {
			missing = append(missing, n)
		}
	}
	index.Reset()
	indexes.Put(index)
	if needed {
		for _, r := range runsOf(kept) {
			o.disk.WillNeed(r.first, r.end)
		}
	}
	return missing
}

// askAhead has pages fetched, for which it has places, and says how far it came.
func (o *Object) askAhead(x extent, from, to int64, w *window) (reached int64) {
	s := o.cache.pages
	places := to - from
	var missing []int64
	s.mu.Lock()
	for n := from; n < to; n++ {
		if !s.kept.Contains(pageKey{o.state, n}) {
			missing = append(missing, n)
		}
	}
	s.mu.Unlock()
	missing = o.notOnDisk(missing, !w.sparse)
	r := &order{reached: to}
	if len(missing) > 0 {
		if planned, err := o.order(missing, x, w, false); err == nil { // What cannot be had the read will tell.
			r = planned
		}
	}
	s.mu.Lock()
	taken := r.claim()
	w.shrink(s, places-taken)
	s.mu.Unlock()
	s.room.Release(places + r.beside - taken)
	r.start()
	return r.reached
}
