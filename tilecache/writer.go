package tilecache

import (
	"context"
	"math/bits"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/semaphore"
)

// buffer is what one request of Warm is read into.
type buffer struct {
	bytes []byte // whole pages, the object's last may be short
	class int
}

// buffers lends memory for requests, of at most so many bytes at once. It comes in sizes of a
// power of two pages, so that what one gives back serves the next.
type buffers struct {
	most int64               // bytes that may be lent
	room *semaphore.Weighted // of them, those that are not
	idle [32]sync.Pool       // of *buffer, by class
}

func newBuffers(bytes int64) *buffers {
	return &buffers{most: bytes, room: semaphore.NewWeighted(bytes)}
}

func (b *buffers) get(ctx context.Context, n int64) (*buffer, error) {
	class := bits.Len64(uint64(n-1) / pageSize)
	if err := b.room.Acquire(ctx, pageSize<<class); err != nil {
		return nil, err
	}
	lent, ok := b.idle[class].Get().(*buffer)
	if !ok {
		lent = &buffer{bytes: make([]byte, pageSize<<class), class: class}
	}
	lent.bytes = lent.bytes[:n]
	return lent, nil
}

func (b *buffers) put(lent *buffer) {
	lent.bytes = lent.bytes[:cap(lent.bytes)]
	b.idle[lent.class].Put(lent)
	b.room.Release(pageSize << lent.class)
}

// writer keeps fetched pages on disk, behind the readers' backs.
type writer struct {
	most  int64      // bytes that may wait
	queue chan write // nil: there is no disk
	ended sync.WaitGroup

	waiting atomic.Int64 // bytes
	dropped atomic.Int64 // pages
}

// write is pages of an object that are to be kept. It holds the object.
type write struct {
	object *Object
	first  int64
	bytes  []byte
	parts  []part // held for it, if the bytes are those of pages
}

// writers is how many pages are written at once: one alone does not get the processor's time that it needs beside many readers.
const writers = 2

func newWriter(most int64, disk bool) *writer {
	w := &writer{most: most}
	if disk {
		queue := make(chan write, 1024)
		w.queue = queue
		for range writers {
			w.ended.Go(func() {
				for next := range queue {
					next.object.writeToDisk(next.first, next.bytes)
					w.done(next)
					w.waiting.Add(-int64(len(next.bytes)))
				}
			})
		}
	}
	return w
}

// writeToDisk keeps pages, unless the object is found damaged, even just then: whoever finds that says so
// first, and then discards what is on disk.
func (o *Object) writeToDisk(first int64, bytes []byte) {
	if o.damage() != nil {
		return
	}
	o.disk.Write(first, bytes)
	if o.damage() != nil {
		o.disk.Discard()
	}
}

// keep has pages written. Those for which there is no room in the queue are not: they cost another
// fetch one day, while waiting would cost time now. The hold of pages is the writer's from now on.
func (w *writer) keep(next write) {
	next.object.refs.Add(1)
	n := int64(len(next.bytes))
	if next.object.disk == nil {
		w.done(next)
		return
	}
	if w.waiting.Add(n) <= w.most {
		select {
		case w.queue <- next:
			return
		default:
		}
	}
	w.waiting.Add(-n)
	w.dropped.Add(pagesIn(n))
	w.done(next)
}

func (w *writer) done(next write) {
	if next.parts != nil {
		next.object.cache.pages.letGoAll(next.parts)
	}
	next.object.Release()
}

// close writes what waits. Nobody keeps anything afterwards.
func (w *writer) close() {
	if w.queue != nil {
		close(w.queue)
		w.ended.Wait()
	}
}

// pages is how many pages so many bytes take.
func pagesIn(bytes int64) int64 { return bytes/pageSize + min(1, bytes%pageSize) }
