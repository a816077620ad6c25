package tilecache

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// Requests of Warm take up to this long: what is under way when it ends is lost.
	warmRequest = 2 * time.Second

	leastWarm = 256 << 10 / pageSize // pages that they ask for, however slow that is,
	firstWarm = 1 << 20 / pageSize   // and before anything has come
)

// Warm fetches what the disk cache does not have of an object, in large requests and several at once,
// and returns how many bytes that were. Memory keeps none of it. What is on disk already is trusted to
// be right, so that going on where an earlier Warm ended takes no time; a page that is not is found
// when it is read. progress, if there is one, is called with numbers of bytes that
// are known to be on disk from then on, and whether they were fetched, one call at a time; in the end
// they add up to the object's size. Warm fails as reading does, and with ErrNotKept where what came could
// not be kept.
func (c *Cache) Warm(ctx context.Context, name string, progress func(bytes int64, fetched bool)) (fetched int64, err error) {
	if c.disk == nil {
		return 0, fmt.Errorf("fetch %s: there is no disk cache to fetch it into", name)
	}
	o, err := c.Open(ctx, name)
	if err != nil {
		return 0, err
	}
	defer o.Release()
	if err := o.enter(); err != nil {
		return 0, err
	}
	defer c.reading.Done()

	var mu sync.Mutex // guards fetched and calls of progress
	came := func(bytes int64, new bool) {
		mu.Lock()
		defer mu.Unlock()
		if new {
			fetched += bytes
		}
		if progress != nil && bytes > 0 {
			progress(bytes, new)
		}
	}
	workers, ctx := errgroup.WithContext(ctx)
	// Half of the connections are left to those who read meanwhile.
	workers.SetLimit(max(1, c.paceNow().Connections/2))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.ctx, cancel)()
	c.warming.CompareAndSwap(0, min(firstWarm, c.bounds.request))
	next, end := int64(0), pagesIn(o.state.info.Size)
	for next < end && ctx.Err() == nil {
		r := run{next, min(next+c.warming.Load(), end)}
		workers.Go(func() error { return o.warm(ctx, r, came) })
		next = r.end
	}
	if err = workers.Wait(); err == nil && next < end {
		err = fmt.Errorf("fetch %s: %w", name, ctx.Err())
	}
	return fetched, o.noted(err)
}

// warm fetches what the disk does not have of a run.
func (o *Object) warm(ctx context.Context, r run, came func(bytes int64, fetched bool)) error {
	var missing []int64
	for n := r.first; n < r.end; n++ {
		if !o.disk.Has(n) {
			missing = append(missing, n)
		}
	}
	there := o.bytesOf(r)
	for _, m := range runsOf(missing) {
		if err := o.fetchToDisk(ctx, m); err != nil {
			return err
		}
		came(o.bytesOf(m), true)
		there -= o.bytesOf(m)
	}
	came(there, false)
	return nil
}

// fetchToDisk brings pages from the source to the disk.
func (o *Object) fetchToDisk(ctx context.Context, r run) error {
	c := o.cache
	if c.offline {
		return o.offlineError(r.first)
	}
	b, err := c.buffers.get(ctx, o.bytesOf(r))
	if err != nil {
		return fmt.Errorf("fetch %s: %w", o.name, err)
	}
	defer c.buffers.put(b)
	c.requestsNow.Add(1)
	began := time.Now()
	err = o.fill(ctx, b.bytes, r.first*pageSize)
	c.requestsNow.Add(-1)
	if err != nil {
		return err
	}
	c.sizeRequests(r.pages(), time.Since(began))
	o.disk.Write(r.first, b.bytes)
	if !o.disk.Has(r.first) || !o.disk.Has(r.end-1) {
		return fmt.Errorf("fetch %s: %w", o.name, ErrNotKept)
	}
	return nil
}

// sizeRequests makes the requests of Warm larger or smaller by how long one of so many pages took. Of many
// that were under way together one has a say.
func (c *Cache) sizeRequests(asked int64, took time.Duration) {
	switch {
	case took > warmRequest:
		c.warming.CompareAndSwap(asked, min(max(asked/2, leastWarm), c.bounds.request))
	case took < warmRequest/3:
		c.warming.CompareAndSwap(asked, min(2*asked, c.bounds.request))
	}
}

// ErrNotKept is told once by Warm; the disk cache logs why.
var ErrNotKept = errors.New("the disk cache does not keep it: see the log, and whether its disk is full or its limit too low")
