package tilecache

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/tesserafs/tesserafs/tilecache/source"
)

const (
	// longPause is how long a long request waits for somebody to go on with it. What the server has sent of it by
	// then is lost: what fits into the buffers of a connection.
	longPause = time.Second

	// longAge is how long one request is gone on with. A server checks the state of an object when it is asked: of
	// one that serves files which are overwritten in place, what comes later may be of the next.
	longAge = 2 * time.Second

	// longSkip is how many pages that nobody wants a long request reads over rather than being made anew.
	longSkip = widestGap

	// mostBroken is how often an answer breaks off before the source is asked for less at a time.
	mostBroken = 2

	// wholeFrom is up to where a long request may begin to ask for the whole object instead: a server sends
	// that out of a file as it is, for half the processor time that a range of it takes.
	wholeFrom = 4 << 20
)

// request is fetches that come by one request to the source, in order: their pages land as they come. It runs in
// a goroutine of the cache's. One that is long asks for all up to the object's end, and takes what it is given while
// somebody reads on: it is not asked again for each window, and a reader that stops has its connection wait.
type request struct {
	object *Object
	ahead  bool // nobody asked for the pages yet
	long   bool

	// Guarded by mu where the request is long, after it has started.
	mu      sync.Mutex
	fetches []*fetch // that are to come
	end     int64    // the number after the last page of them
	ended   bool     // it takes no more

	wake chan struct{} // of a long one that has got more; of one

	// Of the goroutine that runs it.
	body  io.ReadCloser // nil: it has not been asked for yet, or has broken off
	broke int           // how often it has, or did not come at all
	at    int64         // where in the object that is,
	to    int64         // and where it ends
	asked time.Time
	bytes int64         // that came of it
	busy  time.Duration // in which they came
}

// claim takes pages for those of a run that have none, and makes fetches of what lies side by side. The caller holds pageStore.mu.
func (q *request) claim(asked run, w *window) {
	o, s := q.object, q.object.cache.pages
	var f *fetch
	for n := asked.first; n < asked.end; n++ {
		k := pageKey{o.state, n}
		if s.kept.Contains(k) {
			f = nil
			continue
		}
		p := part{n, s.take(k, asked.pages() >= s.block/4)}
		if f == nil || len(f.parts) == blockPages || !besides(f.parts[len(f.parts)-1], p) {
			f = newFetch(o)
			q.fetches = append(q.fetches, f)
		}
		f.add(p, w)
	}
	last := q.fetches[len(q.fetches)-1]
	q.end = last.parts[len(last.parts)-1].number + 1
}

func (q *request) pages() (n int64) {
	for _, f := range q.fetches {
		n += int64(len(f.parts))
	}
	return n
}

// first is the number of the first page of what is to come.
func (q *request) first() int64 { return q.fetches[0].parts[0].number }

// start sets the request going, or has one of the object's long requests go on with it, if that comes there next.
func (q *request) start() {
	o := q.object
	if q.long {
		q.wake = make(chan struct{}, 1)
		o.longing.Lock()
		defer o.longing.Unlock()
		if slices.ContainsFunc(o.longs, func(long *request) bool { return long.goOn(q) }) {
			return
		}
		o.longs = append(o.longs, q)
		o.cache.longNow.Add(1)
		if len(o.longs) > trackedStreams {
			o.longs = o.longs[1:] // It ends once nobody has gone on with it for a while.
		}
	}
	o.refs.Add(1)
	q.count(1)
	o.cache.fetching.Go(q.run)
}

// count counts the request among those under way, or no longer.
func (q *request) count(n int64) {
	c := q.object.cache
	c.requestsNow.Add(n)
	if q.ahead {
		c.aheadNow.Add(n)
	}
}

// goesOn says whether one of the object's long requests comes to a page next: it has begun to be sent, whatever has become of
// the source since.
func (o *Object) goesOn(number int64) bool {
	o.longing.Lock()
	defer o.longing.Unlock()
	return slices.ContainsFunc(o.longs, func(q *request) bool {
		q.mu.Lock()
		defer q.mu.Unlock()
		return q.nextIs(number)
	})
}

// nextIs says whether the request comes to a page next. The caller holds q.mu.
func (q *request) nextIs(number int64) bool {
	skip := number - q.end
	return !q.ended && 0 <= skip && skip <= longSkip
}

// goOn takes over what another request was to bring, if this one comes there next.
func (q *request) goOn(other *request) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.nextIs(other.first()) {
		return false
	}
	q.fetches = append(q.fetches, other.fetches...)
	q.end = other.end
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return true
}

func (q *request) run() {
	o := q.object
	defer o.Release()
	defer q.finish()
	var failed error // of all that is still to come
	for {
		f := q.next(failed != nil)
		if f == nil {
			return
		}
		err := failed
		if err == nil {
			err = q.bring(o.cache.ctx, f)
		}
		if errors.Is(err, source.ErrChanged) || errors.Is(err, source.ErrUnavailable) {
			failed = err // Others have their own try at what else went wrong.
		}
		f.land(err)
	}
}

// next is the fetch that comes next; nil where there is none, and none will be.
func (q *request) next(failed bool) *fetch {
	last := failed || !q.long || q.broke >= mostBroken
	for {
		if f, ended := q.take(last); f != nil || ended {
			return f
		}
		last = !q.wait()
	}
}

// wait waits until there may be another fetch, and is false where nobody goes on.
func (q *request) wait() bool {
	q.count(-1)
	defer q.count(1)
	pause := time.NewTimer(longPause)
	defer pause.Stop()
	select {
	case <-q.wake:
		return true
	case <-pause.C:
	case <-q.object.cache.ctx.Done():
	}
	return false
}

// take takes the next fetch; nil where there is none. Where no others are to come, none are taken over any more.
func (q *request) take(last bool) (f *fetch, ended bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ended = q.ended || last || q.end >= pagesIn(q.object.state.info.Size)
	if len(q.fetches) == 0 {
		return nil, q.ended
	}
	f, q.fetches = q.fetches[0], q.fetches[1:]
	return f, q.ended
}

// finish ends the request to the source.
func (q *request) finish() {
	q.count(-1)
	q.leave()
	o := q.object
	o.cache.judge(q)
	if !q.long {
		return
	}
	o.cache.longNow.Add(-1)
	o.longing.Lock()
	defer o.longing.Unlock()
	o.longs = slices.DeleteFunc(o.longs, func(long *request) bool { return long == q })
}

// leave closes what the source sends, if it still does.
func (q *request) leave() {
	if body := q.body; body != nil {
		q.body = nil
		defer func() { _ = recover() }() // as of an error: what was read is right
		body.Close()
	}
}

// bring fills the pages of a fetch: from what comes, or, where that breaks off, by a request of its own, which has
// all the patience there is.
func (q *request) bring(ctx context.Context, f *fetch) (err error) {
	defer caught(q.object, &err)
	c := q.object.cache
	p := f.memory()
	came, err := q.read(ctx, p, f.parts[0].number*pageSize)
	if err == nil && !came {
		err = f.fill(ctx)
	}
	if err != nil {
		return err
	}
	if q.ahead {
		c.counts.ahead.Add(int64(len(p)))
	}
	f.keep()
	return nil
}

// read fills p from what the source sends, if it does. Errors are such as asking again does not mend.
func (q *request) read(ctx context.Context, p []byte, off int64) (came bool, err error) {
	if q.body != nil && time.Since(q.asked) > longAge {
		q.leave()
	}
	if q.body == nil {
		if err := q.ask(ctx, off); q.body == nil {
			return false, err
		}
	}
	began := time.Now()
	skip := off - q.at
	_, err = io.CopyN(io.Discard, q.body, skip)
	if err == nil {
		_, err = io.ReadFull(q.body, p)
	}
	if err == nil && off+int64(len(p)) == q.to {
		// Only its end says that the server meant no more.
		if _, end := q.body.Read(make([]byte, 1)); end != io.EOF {
			err = errNoEnd
		}
	}
	if err != nil {
		q.leave()
		q.broke++
		return false, final(err)
	}
	c, n := q.object.cache, skip+int64(len(p))
	q.at += n
	q.bytes += n
	q.busy += time.Since(began)
	c.counts.fetched.Add(n)
	c.failing.Store(false)
	return true, nil
}

// errNoEnd is of an answer that goes on, or fails, where it should end: the request in its place tells.
var errNoEnd = errors.New("the answer does not end where it should")

// final is an error that another request would meet as well; nil for any other.
func final(err error) error {
	if errors.Is(err, source.ErrChanged) {
		return err
	}
	return nil
}

// ask asks the source for what is to come, from an offset on. It does not where that is one fetch, which its own
// request brings as well, and may be sent twice where it is slow, or where opening the object has brought it along.
func (q *request) ask(ctx context.Context, off int64) error {
	o := q.object
	q.mu.Lock()
	end, alone := q.end, len(q.fetches) == 0
	q.mu.Unlock()
	if alone && !q.long || q.broke >= mostBroken || time.Now().UnixNano() < o.cache.piecesUntil.Load() {
		return nil
	}
	src, err := o.open(ctx)
	if err != nil {
		o.cache.failing.Store(!errors.Is(err, source.ErrChanged))
		return err // It is what a request of less would meet as well.
	}
	streamer, ok := src.(source.Streamer)
	if !ok || off < int64(len(prefix(src))) {
		return nil
	}
	to := min(end*pageSize, o.state.info.Size)
	if q.long {
		to = o.state.info.Size
		if off <= wholeFrom && off <= to/16 {
			off = 0
		}
	}
	o.cache.counts.requests.Add(1)
	body, err := streamer.Stream(ctx, off, to-off)
	if err != nil {
		q.broke++
		return final(err)
	}
	q.body, q.at, q.to, q.asked = body, off, to, time.Now()
	return nil
}

// longer says whether another long request is worth making: where a few connections fill the line. Elsewhere many short ones
// bring more. Half of all requests that may be made at once are left to those who wait: a long one may pause.
func (c *Cache) longer(p source.Pace) bool {
	return p.Bandwidth >= longBandwidth && time.Now().UnixNano() > c.shortUntil.Load() &&
		c.longNow.Load() < int64(c.shownPace().Connections/2)
}

const (
	longBandwidth = line / 4 // bytes a second, of one connection

	// shortFor is how long no long request is made after one that was slow, and no answer is taken as it comes after one
	// that broke off again and again.
	shortFor    = time.Minute
	judgedBytes = 8 << 20 // of a request that can be called slow
)

// judge looks at how a request has fared.
func (c *Cache) judge(q *request) {
	until := time.Now().Add(shortFor).UnixNano()
	if q.long && q.bytes >= judgedBytes && float64(q.bytes) < q.busy.Seconds()*longBandwidth/2 {
		c.shortUntil.Store(until)
	}
	if q.broke >= mostBroken {
		c.shortUntil.Store(until)
		c.piecesUntil.Store(until)
	}
}
