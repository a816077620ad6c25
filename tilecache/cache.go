package tilecache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/sys/unix"

	"github.com/tesserafs/tesserafs/tilecache/source"
)

const (
	defaultOpenObjects = 512
	rememberedNames    = 262_144
)

// Config says how much a Cache keeps. A field that is zero or less has its default.
type Config struct {
	// OpenObjects is how many objects are kept open: 512, and never more than a quarter of the
	// files this process may open.
	OpenObjects int
}

// Cache is the objects of one source, kept open. All methods may be called by many goroutines at
// once.
type Cache struct {
	src         source.Source
	openObjects int

	ctx     context.Context // of opens under way; Close ends it
	end     context.CancelFunc
	opening sync.WaitGroup // opens under way; Close waits for them

	// mu guards the fields up to the blank line. No call to the source is made under it.
	mu      sync.Mutex
	closed  bool
	open    *simplelru.LRU[string, *Object] // each holds one reference
	seen    *simplelru.LRU[string, source.Info]
	flights map[string]*flight // opens under way that Forget has not disowned

	openNow, opens, read atomic.Int64
}

// flight is one open that its callers wait for.
type flight struct {
	done chan struct{} // closed after it landed

	// Guarded by Cache.mu until done is closed.
	waiters int  // each is given a reference
	landed  bool // waiters have their references, the fields below are set
	object  *Object
	err     error
}

// Stats counts what a Cache has done and holds.
type Stats struct {
	OpenObjects int64 `json:"open_objects"` // now, those that left the cache but are in use among them
	Opens       int64 `json:"opens"`        // times the source was asked to open an object
	BytesRead   int64 `json:"bytes_read"`
}

// New keeps the objects of a source. Close ends it.
func New(src source.Source, cfg Config) *Cache {
	if cfg.OpenObjects <= 0 {
		cfg.OpenObjects = defaultOpenObjects
	}
	var files unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &files) == nil {
		cfg.OpenObjects = int(max(1, min(uint64(cfg.OpenObjects), files.Cur/4)))
	}
	c := &Cache{
		src:         src,
		openObjects: cfg.OpenObjects,
		open:        newLRU[string, *Object](cfg.OpenObjects),
		seen:        newLRU[string, source.Info](rememberedNames),
		flights:     make(map[string]*flight),
	}
	c.ctx, c.end = context.WithCancel(context.Background())
	return c
}

// newLRU is an LRU without a function for what it evicts. The size must be above 0.
func newLRU[K comparable, V any](size int) *simplelru.LRU[K, V] {
	l, err := simplelru.NewLRU[K, V](size, nil)
	if err != nil {
		panic(err) // It has no other error than a size of 0 or less.
	}
	return l
}

// Open gives an object, which the caller must Release exactly once. It asks the source only for
// objects that are not open, and does not look whether open ones are still what they were: Check
// does. It fails with fs.ErrNotExist where there is no such object, with source.ErrChanged where
// there is another than was first seen, with fs.ErrClosed after Close, or as the source fails.
func (c *Cache) Open(ctx context.Context, name string) (*Object, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil, closedError(name)
	}
	if o, ok := c.open.Get(name); ok {
		o.refs.Add(1)
		c.mu.Unlock()
		return o, nil
	}
	f := c.flights[name]
	if f == nil {
		f = &flight{done: make(chan struct{})}
		c.flights[name] = f
		c.opening.Go(func() { c.land(name, f) })
	}
	f.waiters++
	c.mu.Unlock()

	select {
	case <-f.done:
		return f.object, f.err
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.landed { // just now, with a reference for this caller
		return f.object, f.err
	}
	f.waiters--
	return nil, fmt.Errorf("open %s: %w", name, ctx.Err())
}

// land opens an object for all who wait, and for the cache.
func (c *Cache) land(name string, f *flight) {
	so, err := c.openSource(name)
	var opened, evicted *Object
	if err == nil {
		opened = c.newObject(name, so) // with a reference of this function's own
	}
	c.mu.Lock()
	// What was opened before Forget is given to those who wait, and not kept.
	own := c.flights[name] == f
	if own {
		delete(c.flights, name)
	}
	f.object, f.err = c.accept(name, opened, err, own)
	if f.err == nil {
		opened.refs.Add(int64(f.waiters))
		if own {
			evicted = c.keep(opened)
		}
	}
	f.landed = true
	c.mu.Unlock()
	// Before anyone goes on, so that files open stay bounded.
	for _, o := range []*Object{evicted, opened} {
		if o != nil {
			o.Release()
		}
	}
	close(f.done)
}

// accept is what callers get for what the source gave, compared with the first sight of the name
// unless Forget came between. The caller holds c.mu.
func (c *Cache) accept(name string, o *Object, err error, compare bool) (*Object, error) {
	first, seen := c.seen.Get(name)
	seen = seen && compare
	switch {
	case c.closed:
		return nil, closedError(name)
	case err != nil && seen && errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w: %w", source.ErrChanged, err)
	case err != nil:
		return nil, err
	case seen && !same(first, o.info):
		return nil, fmt.Errorf("%s: %w: it had %d bytes of %v, now %d of %v", name, source.ErrChanged,
			first.Size, first.ModTime, o.info.Size, o.info.ModTime)
	}
	return o, nil
}

// keep puts an object into the cache and remembers its Info. It gives back the object that left the
// cache for it, if any did. The caller holds c.mu.
func (c *Cache) keep(o *Object) (evicted *Object) {
	c.seen.Add(o.name, o.info)
	if c.open.Len() >= c.openObjects {
		_, evicted, _ = c.open.RemoveOldest()
	}
	o.refs.Add(1)
	c.open.Add(o.name, o)
	return evicted
}

// openSource asks the source. It runs in a goroutine of the cache's own, where a panic would end
// the process instead of one read.
func (c *Cache) openSource(name string) (o source.Object, err error) {
	defer func() {
		if p := recover(); p != nil {
			o, err = nil, fmt.Errorf("open %s: panic: %v\n%s", name, p, debug.Stack())
		}
	}()
	c.opens.Add(1)
	return c.src.Open(c.ctx, name)
}

// same says whether two infos are of one state.
func same(a, b source.Info) bool {
	return a.Size == b.Size && a.ModTime.Equal(b.ModTime) && a.ETag == b.ETag
}

func closedError(name string) error {
	return fmt.Errorf("open %s: the tile cache is %w", name, fs.ErrClosed)
}

// drop takes an object that was found changed out of the cache, so that the next Open asks the
// source.
func (c *Cache) drop(o *Object) {
	c.mu.Lock()
	kept, ok := c.open.Peek(o.name)
	ok = ok && kept == o
	if ok {
		c.open.Remove(o.name)
	}
	c.mu.Unlock()
	if ok {
		o.Release()
	}
}

// Forget drops what is known of every object: the next Open of each asks the source, and takes what
// it finds for the first sight. Objects in use stay what they are.
func (c *Cache) Forget() {
	c.mu.Lock()
	c.seen.Purge()
	clear(c.flights)
	kept := c.emptied()
	c.mu.Unlock()
	for _, o := range kept {
		o.Release()
	}
}

// emptied takes all objects out of the cache. The caller holds c.mu, and releases them after.
func (c *Cache) emptied() []*Object {
	kept := c.open.Values()
	c.open.Purge()
	return kept
}

// Close ends opens under way, waits for them, and closes the objects that are not in use; those that
// are close when they are released. Every later Open fails.
func (c *Cache) Close() error {
	c.mu.Lock()
	c.closed = true
	kept := c.emptied()
	c.mu.Unlock()
	c.end()
	c.opening.Wait()
	var errs []error
	for _, o := range kept {
		errs = append(errs, o.release())
	}
	return errors.Join(errs...)
}

// Stats says what the cache has done and holds.
func (c *Cache) Stats() Stats {
	return Stats{
		OpenObjects: c.openNow.Load(),
		Opens:       c.opens.Load(),
		BytesRead:   c.read.Load(),
	}
}
