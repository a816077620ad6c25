package tilecache

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sort"

	"github.com/tesserafs/tesserafs/tilecache/disk"
	"github.com/tesserafs/tesserafs/tilecache/source"
)

// diskPages is how many pages one fetch reads from disk: enough to be worth a goroutine, few enough
// that several share a large read.
const diskPages = 1 << 20 / pageSize

// part is a page that a fetch brings, and its number.
type part struct {
	number int64
	*page
}

// fetch brings pages of one object: those of one request to the source, or some that are on disk. It
// runs in a goroutine of the cache's, for all who wait and for the cache.
type fetch struct {
	object *Object
	parts  []part // ascending; the fetch holds them
	asked  run    // of the source: their pages, and those between them that are here already
	disk   bool   // they are thought to be on disk
	ahead  bool   // nobody asked for them yet

	done chan struct{} // closed when it has landed
	err  error         // set before that
}

// order is how pages that are missing are to come.
type order struct {
	object   *Object
	disk     []int64 // the numbers of those that are thought to be there
	source   []int64 // and of all others
	requests []run   // for the others, and what lies between them
	beside   int64   // how many pages that is; the order has places for them
	window   *window // that they are read ahead for, or nil
	reached  int64   // the number after the last that comes, of those asked for
	fetches  []*fetch
}

// order plans how pages come, which ascend, for the read of an extent or for a window; index is the object's. Of scattered
// ones no more are read beside them than they are themselves.
func (o *Object) order(numbers []int64, index *disk.Index, x extent, w *window, scattered bool) (*order, error) {
	c := o.cache
	r := &order{object: o, window: w, reached: numbers[len(numbers)-1] + 1}
	for _, n := range numbers {
		if o.disk != nil && o.disk.Keeps(index, n) {
			r.disk = append(r.disk, n)
		} else {
			r.source = append(r.source, n)
		}
	}
	if w != nil {
		if !w.sparse { // Of sparse ones most may not be wanted.
			for _, kept := range runsOf(r.disk) {
				o.disk.WillNeed(kept.first, kept.end)
			}
		}
		r.disk = nil
	}
	if c.offline {
		if len(r.source) > 0 && w == nil {
			return nil, o.offlineError(r.source[0])
		}
		r.source = nil
	}
	if len(r.source) == 0 {
		return r, nil
	}
	pace := c.paceNow()
	pace.Connections = max(1, c.connections(w != nil))
	b := c.bounds
	if scattered {
		b.beside = min(b.beside, int64(len(r.source)))
	}
	wanted := runsOf(r.source)
	r.requests = plan(wanted, pace, b)
	if w != nil {
		r.requests = worthwhile(r.requests, pace, b.request)
	} else if x.rows() {
		r.requests = wholeRows(r.requests, wanted, b.request, run{x.begin / pageSize, pagesIn(min(x.rowsEnd(), o.state.info.Size))})
	}
	r.beside = pagesOf(r.requests) - int64(len(r.source))
	if r.beside > 0 && !c.pages.room.TryAcquire(r.beside) {
		b.beside, r.beside = 0, 0
		r.requests = plan(runsOf(r.source), pace, b)
	}
	if w != nil && len(r.requests) > pace.Connections {
		r.requests = r.requests[:pace.Connections]
		r.reached = r.requests[pace.Connections-1].end
	}
	return r, nil
}

// A request that reads ahead has what a connection brings in aheadTime, from leastAhead to mostAhead pages, if it
// can. Each takes this machine's and the server's time: of a gateway on the same machine ranges of 1 MiB take
// twice as much as ones of 4. Smaller ones only seem to be quicker where that is what takes the time.
const (
	aheadTime  = 0.004 // seconds
	leastAhead = 1 << 20 / pageSize
	mostAhead  = 4 << 20 / pageSize
)

// worthwhile joins requests that touch to such as are worth making ahead, of at most twice as many pages as others
// may have.
func worthwhile(requests []run, pace source.Pace, most int64) []run {
	least := min(max(int64(pace.Bandwidth*aheadTime)/pageSize, leastAhead), mostAhead, most)
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
// holds pageStore.mu, has a place for each of the order's numbers, and calls start.
func (r *order) claim() (taken int64) {
	for numbers := range slices.Chunk(r.disk, diskPages) {
		f := r.newFetch()
		f.disk = true
		for _, n := range numbers {
			f.claim(n, r.window)
		}
		r.add(f)
	}
	for _, asked := range r.requests {
		if !slices.ContainsFunc(numbersIn(r.source, asked), r.missing) {
			continue // Others have asked for what this was for.
		}
		f := r.newFetch()
		for n := asked.first; n < asked.end; n++ {
			f.claim(n, r.window)
		}
		f.asked = run{f.parts[0].number, f.parts[len(f.parts)-1].number + 1}
		r.add(f)
	}
	for _, f := range r.fetches {
		taken += int64(len(f.parts))
	}
	if len(r.fetches) > 0 {
		r.object.cache.fetching.Add(len(r.fetches))
	}
	return taken
}

func (r *order) newFetch() *fetch {
	return &fetch{object: r.object, ahead: r.window != nil, done: make(chan struct{})}
}

func (r *order) add(f *fetch) {
	if len(f.parts) > 0 {
		f.object.refs.Add(1)
		r.fetches = append(r.fetches, f)
	}
}

func (r *order) missing(number int64) bool {
	return !r.object.cache.pages.kept.Contains(pageKey{r.object.state, number})
}

// claim takes a page for a number that has none.
func (f *fetch) claim(number int64, w *window) {
	s, k := f.object.cache.pages, pageKey{f.object.state, number}
	if s.kept.Contains(k) {
		return
	}
	p := s.take(k)
	p.fetch = f
	p.window = w
	f.parts = append(f.parts, part{number, p})
}

// start sets the fetches going.
func (r *order) start() {
	for _, f := range r.fetches {
		c := f.object.cache
		if !f.disk {
			c.requestsNow.Add(1)
			if f.ahead {
				c.aheadNow.Add(1)
			}
		}
		go f.run()
	}
}

// run brings the pages and lets all go on who wait for them.
func (f *fetch) run() {
	o, c, s := f.object, f.object.cache, f.object.cache.pages
	defer c.fetching.Done()
	defer o.Release()
	err := f.bring(c.ctx)
	if !f.disk {
		c.requestsNow.Add(-1)
		if f.ahead {
			c.aheadNow.Add(-1)
		}
	}
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

// bring fills the pages. A panic of the source would end the process here, instead of one read.
func (f *fetch) bring(ctx context.Context) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("read %s: panic: %v\n%s", f.object.name, p, debug.Stack())
		}
	}()
	if !f.disk {
		return f.fromSource(ctx, f.asked, f.parts)
	}
	numbers := f.fromDisk(ctx)
	if len(numbers) == 0 {
		return nil
	}
	if f.object.cache.offline {
		return f.object.offlineError(numbers[0])
	}
	// One after another: this is rare.
	pace := f.object.cache.paceNow()
	pace.Connections = 1
	b := f.object.cache.bounds
	b.beside = int64(len(numbers))
	for _, r := range plan(runsOf(numbers), pace, b) {
		if err := f.fromSource(ctx, r, f.parts); err != nil {
			return err
		}
	}
	return nil
}

// fromDisk reads what is there, and returns the numbers of what is not.
func (f *fetch) fromDisk(ctx context.Context) (missing []int64) {
	o, s := f.object, f.object.cache.pages
	for parts := f.parts; len(parts) > 0; {
		// Pages that follow each other in the object and in memory are read together.
		n := 1
		for n < len(parts) && parts[n].number == parts[n-1].number+1 && parts[n].slot == parts[n-1].slot+1 {
			n++
		}
		p := s.memory[parts[0].slot*pageSize:][:o.bytesOf(run{parts[0].number, parts[0].number + int64(n)})]
		got := o.disk.Read(ctx, parts[0].number, p)
		whole := got / pageSize
		if got == len(p) {
			whole = n
		}
		o.cache.counts.disk.Add(int64(whole))
		parts = parts[whole:]
		if whole < n {
			missing = append(missing, parts[0].number)
			parts = parts[1:]
		}
	}
	return missing
}

// fromSource asks the source for a run, which fills those of the parts that lie in it, and goes to
// disk later.
func (f *fetch) fromSource(ctx context.Context, r run, parts []part) error {
	first := sort.Search(len(parts), func(i int) bool { return parts[i].number >= r.first })
	end := sort.Search(len(parts), func(i int) bool { return parts[i].number >= r.end })
	parts = parts[first:end]
	o, c := f.object, f.object.cache
	into := write{object: o, first: r.first}
	if int64(len(parts)) == r.pages() {
		into.bytes = c.pages.memoryOf(parts, o.bytesOf(r))
	}
	if into.bytes == nil {
		b, err := c.buffers.get(ctx, o.bytesOf(r))
		if err != nil {
			return err
		}
		into.bytes, into.buffer = b.bytes, b
	}
	kept := false
	defer func() { // also when the source panics
		if !kept && into.buffer != nil {
			c.buffers.put(into.buffer)
		}
	}()
	if err := o.fill(ctx, into.bytes, r.first*pageSize); err != nil {
		return err
	}
	if f.ahead {
		c.counts.ahead.Add(int64(len(into.bytes)))
	}
	c.counts.source.Add(int64(len(parts)))
	if into.buffer != nil {
		for _, p := range parts {
			copy(p.data, into.bytes[(p.number-r.first)*pageSize:])
		}
	} else {
		into.parts = parts
		c.pages.holdMore(parts)
	}
	kept = true
	c.writer.keep(into)
	return nil
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

func (c *Cache) paceNow() source.Pace {
	if c.pace == nil {
		return believed(source.Pace{})
	}
	p := believed(c.pace())
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
