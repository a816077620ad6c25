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

	"github.com/tesserafs/tesserafs/tilecache/disk"
	"github.com/tesserafs/tesserafs/tilecache/source"
)

const (
	defaultOpenObjects = 512
	rememberedNames    = 262_144

	// leastMemory is what a Cache with pages takes at least.
	leastMemory = 4 << 20

	// largestObject is far beyond any there is, and not so far that offsets overflow.
	largestObject = 1 << 60
)

// Config says how much a Cache keeps.
type Config struct {
	// OpenObjects is how many objects are kept open: 512 where it is zero or less, and never more than
	// a quarter of the files this process may open.
	OpenObjects int

	// Memory is how many bytes are for pages of objects, all that has to do with them counted: 4 MiB at
	// least, and never more than the machine has. Zero or less: objects are read directly, and what
	// follows has no effect.
	Memory int64

	// Disk keeps pages as well, and from one process to the next. Nil: nothing does. The caller closes
	// it after the Cache.
	Disk *disk.Cache

	// Pace says how the source answers, for planning requests to it. Nil: it is not known.
	Pace func() source.Pace

	// Offline is never to ask the source: objects are as Disk knows them, and what is not
	// there fails with source.ErrUnavailable.
	Offline bool

	// Verify, if not nil, has objects held against their checksums once they have been read.
	Verify *Verification
}

// Cache is the objects of one source, kept open, and pages of them. All methods may be called by many
// goroutines at once.
type Cache struct {
	src         source.Source
	openObjects int

	ctx     context.Context // of opens and fetches under way; Close ends it
	end     context.CancelFunc
	opening sync.WaitGroup // opens under way; Close waits for them

	// mu guards the fields up to the blank line. No call to the source is made under it.
	mu      sync.Mutex
	closed  bool
	open    *simplelru.LRU[string, *Object] // each holds one reference
	seen    *simplelru.LRU[string, sight]
	epoch   int                // how often Forget was called
	flights map[string]*flight // opens under way that Forget has not disowned

	pages       *pageStore // nil: objects are read directly, and the rest is not used
	buffers     *buffers
	writer      *writer
	disk        *disk.Cache
	pace        func() source.Pace
	offline     bool
	bounds      bounds
	batchPages  int   // that one read holds at once
	windowLimit int64 // pages that a stream reads ahead

	reading  sync.WaitGroup // reads of pages; Close waits for them
	fetching sync.WaitGroup // requests, which they began

	failing     atomic.Bool  // the last request failed
	requestsNow atomic.Int64 // requests under way, but for long ones that pause
	aheadNow    atomic.Int64 // of those, the ones nobody waits for
	longNow     atomic.Int64 // of them, and of those that pause, the long ones
	shortUntil  atomic.Int64 // until when no long request is made, in nanoseconds of Unix time,
	piecesUntil atomic.Int64 // and none of which answers are taken as they come
	warming     atomic.Int64 // pages that a request of Warm asks for; 0 before the first

	openNow, opens atomic.Int64
	counts         counts

	verifier *verifier // nil: nothing is verified
}

// sight is the state of an object when it was first seen. It counts until the next Forget.
type sight struct {
	*state
	epoch int
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
		seen:        newLRU[string, sight](rememberedNames),
		flights:     make(map[string]*flight),
	}
	c.ctx, c.end = context.WithCancel(context.Background())
	if cfg.Memory > 0 {
		c.keepPages(cfg)
	}
	if cfg.Verify != nil {
		c.verifier = newVerifier(c, *cfg.Verify)
	}
	return c
}

// Distant says whether objects are read by pages, because asking their source for them takes long.
func (c *Cache) Distant() bool { return c.pages != nil }

// keepPages divides the memory: a quarter for what Warm asks for, and for all that is not pages, the rest for pages.
func (c *Cache) keepPages(cfg Config) {
	memory := max(cfg.Memory, leastMemory)
	var machine unix.Sysinfo_t
	if unix.Sysinfo(&machine) == nil {
		memory = min(memory, int64(machine.Totalram*uint64(machine.Unit)))
	}
	forBuffers := memory / 4
	c.pages = newPageStore(memory - forBuffers)
	c.buffers = newBuffers(forBuffers)
	c.writer = newWriter(forBuffers, cfg.Disk != nil)
	c.disk, c.pace, c.offline = cfg.Disk, cfg.Pace, cfg.Offline
	c.bounds = bounds{
		// Four of the largest that Warm makes, whose buffers may be twice as large, fit into half.
		request: max(1, min(8<<20, forBuffers/16)/pageSize),
		strip:   min(32<<20/pageSize, c.pages.count/8),
		beside:  c.pages.count / 8,
	}
	c.batchPages = int(c.pages.count / 4)
	c.windowLimit = min(widestWindow, c.pages.count/4)
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
// objects that are not open, with pages for those only that were not seen before, and does not look whether
// others are still what they were: Check does. It fails with fs.ErrNotExist where there is no such object, with source.ErrChanged where
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
	opened, err := c.openObject(name) // with a reference of this function's own
	var evicted *Object
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

// openObject makes an object. With pages it asks the source for those only that it does not remember:
// others are opened once a page of them is missing.
func (c *Cache) openObject(name string) (*Object, error) {
	c.mu.Lock()
	last, seen := c.seen.Peek(name)
	known := seen && last.epoch == c.epoch && !last.changed.Load()
	c.mu.Unlock()
	var src source.Object
	var info source.Info
	switch {
	case c.pages != nil && known:
		info = last.info
	case c.offline:
		var ok bool
		if c.disk != nil {
			info, ok = c.disk.Known(c.src.String(), name)
		}
		if !ok && c.disk != nil && c.disk.Absent(c.src.String(), name) {
			return nil, fmt.Errorf("open %s: the archive did not have it when it was last asked: %w", name, fs.ErrNotExist)
		}
		if !ok {
			return nil, fmt.Errorf("open %s: it is not in the disk cache, and the archive is used offline: "+
				"fetch it with tesserafs warm, or do without --offline: %w", name, source.ErrUnavailable)
		}
	default:
		var err error
		if src, err = c.openSource(name); err != nil {
			if c.disk != nil && errors.Is(err, fs.ErrNotExist) && !errors.Is(err, source.ErrUnavailable) {
				c.disk.NoteAbsent(c.src.String(), name)
			}
			return nil, err
		}
		info = src.Info()
	}
	st := last.state // whose pages may still be in memory
	if !seen || !same(st.info, info) || st.changed.Load() {
		st = &state{info: info}
	}
	o := c.newObject(name, st, src)
	if c.disk != nil {
		// It fails when the disk cache is closed: then there is none.
		o.disk, _ = c.disk.Object(c.src.String(), name, info)
	}
	if c.pages != nil && src != nil {
		o.keepPrefix(src)
	}
	return o, nil
}

// accept is what callers get for what the source gave, compared with the first sight of the name
// unless Forget came between. The caller holds c.mu.
func (c *Cache) accept(name string, o *Object, err error, compare bool) (*Object, error) {
	first, seen := c.seen.Get(name)
	seen = seen && first.epoch == c.epoch && compare
	switch {
	case c.closed:
		return nil, closedError(name)
	case err != nil && seen:
		return nil, changedIfGone(err)
	case err != nil:
		return nil, err
	case seen && !same(first.info, o.state.info):
		return nil, otherError(name, first.info, o.state.info)
	}
	return o, nil
}

// changedIfGone is the error of opening an object that was seen before.
func changedIfGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", source.ErrChanged, err)
	}
	return err
}

func otherError(name string, first, now source.Info) error {
	return fmt.Errorf("%s: %w: it had %d bytes of %v, now %d of %v", name, source.ErrChanged,
		first.Size, first.ModTime, now.Size, now.ModTime)
}

// keep puts an object into the cache and remembers its Info. It gives back the object that left the
// cache for it, if any did. The caller holds c.mu.
func (c *Cache) keep(o *Object) (evicted *Object) {
	c.seen.Add(o.name, sight{o.state, c.epoch})
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
	o, err = c.src.Open(c.ctx, name)
	if err != nil {
		return nil, err
	}
	if size := o.Info().Size; size < 0 || size > largestObject {
		o.Close()
		return nil, fmt.Errorf("open %s: the source says it has %d bytes: %w", name, size, fs.ErrInvalid)
	}
	return o, nil
}

// same says whether two infos are of one state.
func same(a, b source.Info) bool {
	return a.Size == b.Size && a.ModTime.Equal(b.ModTime) && a.ETag == b.ETag
}

func closedError(name string) error {
	return fmt.Errorf("%s: the tile cache is %w", name, fs.ErrClosed)
}

// drop takes an object that was found changed out of the cache, so that the next Open asks the
// source.
func (c *Cache) drop(o *Object) {
	c.mu.Lock()
	kept, ok := c.open.Peek(o.name)
	ok = ok && (kept == o || c.pages != nil && kept.state == o.state)
	if ok {
		c.open.Remove(o.name)
	}
	c.mu.Unlock()
	if ok {
		kept.Release()
	}
}

// Forget drops what is known of every object: the next Open of each asks the source, and takes what
// it finds for the first sight. Objects in use stay what they are.
func (c *Cache) Forget() {
	c.mu.Lock()
	c.epoch++
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

// Close ends opens and fetches under way, waits for them and for what is to be written to disk, and
// closes the objects that are not in use; those that are close when they are released. Every later
// Open fails, and with pages every later read.
func (c *Cache) Close() error {
	c.mu.Lock()
	again := c.closed
	c.closed = true
	kept := c.emptied()
	c.mu.Unlock()
	c.end()
	c.opening.Wait()
	if c.verifier != nil {
		<-c.verifier.ended
	}
	if c.pages != nil && !again {
		c.pages.end()
		c.reading.Wait()
		c.fetching.Wait()
		c.writer.close()
		c.pages.close()
	}
	var errs []error
	for _, o := range kept {
		errs = append(errs, o.release())
	}
	return errors.Join(errs...)
}
