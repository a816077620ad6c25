package tilecache

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sort"

	"github.com/tesserafs/tesserafs/tilecache/source"
)

// part is a page that a fetch brings, and its number.
type part struct {
	number int64
	*page
}

// fetch brings pages of one object, for all who wait and for the cache. They follow each other, and lie side by side in
// memory.
type fetch struct {
	object *Object
	parts  []part // ascending; the fetch holds them

	done chan struct{} // closed when it has landed
	err  error         // set before that
}

// order is how pages that are missing are to come from the source.
type order struct {
	object   *Object
	numbers  []int64
	asks     []run   // for them, and what lies between
	long     bool    // that is one, which others may go on with
	beside   int64   // how many pages lie between them; the order has places for them
	window   *window // that they are read ahead for, or nil
	reached  int64   // the number after the last that comes, of those asked for
	requests []*request
}

// order plans how pages come, which ascend, for the read of an extent or for a window. Of scattered ones no more
// are read beside them than they are themselves.
func (o *Object) order(numbers []int64, x extent, w *window, scattered bool) (*order, error) {
	c := o.cache
	if c.offline {
		return nil, o.offlineError(numbers[0])
	}
	r := &order{object: o, numbers: numbers, window: w, reached: numbers[len(numbers)-1] + 1}
	pace := c.paceNow()
	pace.Connections = max(1, c.connections(w != nil))
	b := c.bounds
	if scattered {
		b.beside = min(b.beside, int64(len(r.numbers)))
	}
	wanted := runsOf(r.numbers)
	all := run{wanted[0].first, wanted[len(wanted)-1].end}
	holes := all.pages() - int64(len(r.numbers))
	if r.long = w != nil && holes <= int64(len(r.numbers))/8 && (c.longer(pace) || o.goesOn(all.first)); r.long {
		r.asks = []run{all}
	} else {
		r.asks = plan(wanted, pace, b)
	}
	switch {
	case r.long:
	case w != nil:
		r.asks = worthwhile(r.asks, pace, b.request)
	case x.rows():
		r.asks = wholeRows(r.asks, wanted, b.request, run{x.begin / pageSize, pagesIn(min(x.rowsEnd(), o.state.info.Size))})
	}
	r.beside = pagesOf(r.asks) - int64(len(r.numbers))
	if r.beside > 0 && !c.pages.room.TryAcquire(r.beside) {
		b.beside, r.beside, r.long = 0, 0, false
		r.asks = plan(wanted, pace, b)
	}
	if w != nil && len(r.asks) > pace.Connections {
		r.asks = r.asks[:pace.Connections]
		r.reached = r.asks[pace.Connections-1].end
	}
	return r, nil
}

// A request that reads ahead has what a connection brings in aheadTime, from leastAhead to largeAhead pages, if it
// can. Each takes this machine's and the server's time: of a gateway on the same machine ranges of 1 MiB take
// twice as much as ones of 4. Smaller ones only seem to be quicker where that is what takes the time.
const (
	aheadTime  = 0.004 // seconds
	leastAhead = 1 << 20 / pageSize
	largeAhead = 4 << 20 / pageSize
)

// worthwhile joins requests that touch to such as are worth making ahead, of at most twice as many pages as others
// may have.
func worthwhile(requests []run, pace source.Pace, most int64) []run {
	least := min(max(int64(pace.Bandwidth*aheadTime)/pageSize, leastAhead), largeAhead, most)
	out := requests[:0]
	for _, r := range requests {
		if last := len(out) - 1; last >= 0 && out[last].end == r.first && (out[last].pages() < least || r.pages() < least/2) {
			out[last].end = r.end
			continue
		}
		out = append(out, r)
	}
	return out
}

// wholeRows lets joined requests begin where the first row of the window does, though its own pages are here,
// and end where the last row of the tile does, as the rows between them do: a reader who goes on with the
// columns beside these finds those two rows as well.
func wholeRows(requests, wanted []run, most int64, rows run) []run {
	n, k := len(requests), len(wanted)
	if n == 0 || k < 2 {
		return requests
	}
	if first := &requests[0]; first.end > wanted[1].first && first.end-rows.first <= most {
		first.first = min(first.first, rows.first)
	}
	if last := &requests[n-1]; last.first < wanted[k-1].first && rows.end-last.first <= most {
		last.end = max(last.end, rows.end)
	}
	return requests
}

// claim makes the fetches of what is missing still, and says how many pages they hold. The caller
// holds pageStore.mu, has a place for each of the order's numbers and for what lies beside, and calls start.
func (r *order) claim() (taken int64) {
	for _, asked := range r.asks {
		if !slices.ContainsFunc(numbersIn(r.numbers, asked), r.missing) {
			continue // Others have asked for what this was for.
		}
		q := &request{object: r.object, ahead: r.window != nil, long: r.long}
		q.claim(asked, r.window)
		r.requests = append(r.requests, q)
		taken += q.pages()
	}
	return taken
}

func (r *order) missing(number int64) bool {
	return !r.object.cache.pages.kept.Contains(pageKey{r.object.state, number})
}

func newFetch(o *Object) *fetch { return &fetch{object: o, done: make(chan struct{})} }

// add has the fetch bring a page, for a window or for nil.
func (f *fetch) add(p part, w *window) {
	p.fetch, p.window = f, w
	f.parts = append(f.parts, p)
}

// start sets the fetches going.
func (r *order) start() {
	for _, q := range r.requests {
		q.start()
	}
}

// land lets all go on who wait for the pages.
func (f *fetch) land(err error) {
	o, c, s := f.object, f.object.cache, f.object.cache.pages
	if err != nil && c.ctx.Err() != nil {
		err = closedError(o.name)
	}
	s.mu.Lock()
	for _, p := range f.parts {
		p.fetch = nil
		if err != nil && p.kept {
			s.forget(p.page)
		}
	}
	s.mu.Unlock()
	s.letGoAll(f.parts)
	f.err = o.noted(err)
	close(f.done)
}

// besides says whether a part follows another, in memory too.
func besides(p, next part) bool { return next.number == p.number+1 && next.slot == p.slot+1 }

// memory is that of the pages.
func (f *fetch) memory() []byte {
	first := f.parts[0].number
	return f.object.cache.pages.memory[f.parts[0].slot*pageSize:][:f.object.bytesOf(run{first, first + int64(len(f.parts))})]
}

// fill fills the pages by a request of their own.
func (f *fetch) fill(ctx context.Context) error {
	return f.object.fill(ctx, f.memory(), f.parts[0].number*pageSize)
}

// keep has the pages, which have come from the source, written to disk, later.
func (f *fetch) keep() {
	c := f.object.cache
	c.counts.source.Add(int64(len(f.parts)))
	c.pages.holdMore(f.parts)
	c.writer.keep(write{object: f.object, first: f.parts[0].number, bytes: f.memory(), parts: f.parts})
}

// caught makes an error of a panic of the source, which would end the process here, instead of one read.
func caught(o *Object, err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("read %s: panic: %v\n%s", o.name, p, debug.Stack())
	}
}

// fill reads from the source, in one request unless opening the object brought the bytes along.
func (o *Object) fill(ctx context.Context, p []byte, off int64) error {
	c := o.cache
	src, err := o.open(ctx)
	if err == nil {
		if b := prefix(src); off+int64(len(p)) <= int64(len(b)) {
			copy(p, b[off:])
			return nil
		}
		var n int
		c.counts.requests.Add(1)
		if n, err = src.ReadAt(ctx, p, off); err == nil && n != len(p) {
			err = o.shortError(n, len(p), off)
		}
	}
	c.failing.Store(err != nil && !errors.Is(err, source.ErrChanged))
	if err == nil {
		c.counts.fetched.Add(int64(len(p)))
	}
	return err
}

// connections is how many requests may be made now. Those that are wanted get what is free, and never
// less than a quarter. Those that read ahead have three quarters in all, of which no stream gets
// more than half of what is free.
func (c *Cache) connections(ahead bool) int {
	all := c.paceNow().Connections
	free := all - int(c.requestsNow.Load())
	if ahead {
		return max(0, min(free, max(1, all*3/4)-int(c.aheadNow.Load()))+1) / 2
	}
	return max(free, all/4, 1)
}

// line is how many bytes a second all connections are taken to bring together, at most: 10 Gbit/s. More
// requests at once than fill it only take each other's time, and the time that making them takes.
const line = 1.25e9

// usefulRequest is how many bytes a request has at least of those that are to fill the line.
const usefulRequest = 256 << 10

// shownPace is what the source has shown, as far as it is believed.
func (c *Cache) shownPace() source.Pace {
	if c.pace == nil {
		return believed(source.Pace{})
	}
	return believed(c.pace())
}

// paceNow is that with no more connections than fill the line.
func (c *Cache) paceNow() source.Pace {
	p := c.shownPace()
	p.Connections = min(p.Connections, 1+int(line/p.Bandwidth+line*p.Latency.Seconds()/usefulRequest))
	return p
}

func (o *Object) offlineError(number int64) error {
	return fmt.Errorf("read %s: bytes from %d on are not in the disk cache, and the archive is used offline: "+
		"fetch them with tesserafs warm, or do without --offline: %w", o.name, number*pageSize, source.ErrUnavailable)
}

// bytesOf is how many bytes a run of pages has; the last page of an object may be short.
func (o *Object) bytesOf(r run) int64 {
	return min(r.end*pageSize, o.state.info.Size) - r.first*pageSize
}

// runsOf puts numbers that follow each other together.
func runsOf(numbers []int64) []run {
	var runs []run
	for _, n := range numbers {
		if last := len(runs) - 1; last >= 0 && runs[last].end == n {
			runs[last].end++
			continue
		}
		runs = append(runs, run{n, n + 1})
	}
	return runs
}

// numbersIn are the numbers that lie in a run.
func numbersIn(numbers []int64, r run) []int64 {
	from, _ := slices.BinarySearch(numbers, r.first)
	to := sort.Search(len(numbers), func(i int) bool { return numbers[i] >= r.end })
	return numbers[from:to]
}
