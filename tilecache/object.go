package tilecache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/tesserafs/tesserafs/tilecache/disk"
	"github.com/tesserafs/tesserafs/tilecache/source"
)

// Object is one object of a source, held open. All methods may be called by many goroutines at
// once, between Open and Release.
type Object struct {
	cache *Cache
	name  string
	state *state

	refs atomic.Int64 // holders, and the cache while it keeps the object; closed at 0

	src     atomic.Pointer[opened] // of the source; with pages nil until one is missing
	opening sync.Mutex             // while that is set
	disk    *disk.Object           // its pages there; nil: none are kept
	streams streams

	longing sync.Mutex // guards what follows
	longs   []*request // that readers go on with, each in a place of his own
}

// state is one state of an object. The pages in memory are those of a state, whichever Object
// read them.
type state struct {
	info    source.Info
	changed atomic.Bool // a read found that it is no longer there

	settled atomic.Bool           // it need not be verified, or not again
	damaged atomic.Pointer[error] // why nothing of it is read any more
}

// opened is what the source has opened, as an atomic.Pointer takes no interface.
type opened struct{ source.Object }

// newObject is an object of one state; src may be nil where there are pages.
func (c *Cache) newObject(name string, st *state, src source.Object) *Object {
	c.openNow.Add(1)
	o := &Object{cache: c, name: name, state: st}
	if src != nil {
		o.src.Store(&opened{src})
	}
	o.refs.Store(1)
	return o
}

// Name is the name the object was opened by.
func (o *Object) Name() string { return o.name }

// Info is the state the object had when it was opened.
func (o *Object) Info() source.Info { return o.state.info }

// ReadAt fills p from offset off, whole, or fails: io.ErrUnexpectedEOF beyond the end,
// source.ErrChanged when the object is no longer what it was, source.ErrUnavailable where it cannot be
// had.
func (o *Object) ReadAt(ctx context.Context, p []byte, off int64) error {
	if o.cache.pages != nil {
		ranges := [...]source.Range{{Off: off, P: p}}
		return o.readPages(ctx, ranges[:])
	}
	if err := o.damage(); err != nil {
		return err
	}
	n, err := o.src.Load().ReadAt(ctx, p, off)
	if err == nil && n != len(p) {
		err = o.shortError(n, len(p), off)
	}
	if err != nil {
		return o.noted(err)
	}
	o.cache.counts.read.Add(int64(n))
	if v := o.cache.verifier; v != nil {
		v.saw(o, source.Range{Off: off, P: p})
	}
	return nil
}

// ReadRanges fills all ranges or fails, as ReadAt does. It takes less than reading them one by one: rows
// of a window are asked for together, and a local object is checked once.
func (o *Object) ReadRanges(ctx context.Context, ranges []source.Range) error {
	if o.cache.pages != nil {
		return o.readPages(ctx, ranges)
	}
	src, ok := o.src.Load().Object.(source.Ranger)
	if !ok {
		for _, r := range ranges {
			if err := o.ReadAt(ctx, r.P, r.Off); err != nil {
				return err
			}
		}
		return nil
	}
	if err := o.damage(); err != nil {
		return err
	}
	if err := src.ReadRanges(ctx, ranges); err != nil {
		return o.noted(err)
	}
	var n int64
	for _, r := range ranges {
		n += int64(len(r.P))
	}
	o.cache.counts.read.Add(n)
	if v := o.cache.verifier; v != nil {
		v.saw(o, ranges...)
	}
	return nil
}

func (o *Object) shortError(n, want int, off int64) error {
	return fmt.Errorf("read %s: %d bytes at %d came for %d: %w", o.name, n, off, want, io.ErrUnexpectedEOF)
}

// Check fails with source.ErrChanged when the object under the name is no longer the one that was
// opened. How soon that is noticed is the source's to say; with pages it is what reads have found.
func (o *Object) Check(ctx context.Context) error {
	if o.state.changed.Load() {
		return o.changedError()
	}
	if err := o.damage(); err != nil {
		return err
	}
	if src := o.src.Load(); src != nil {
		return o.noted(src.Check(ctx))
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("check %s: %w", o.name, err)
	}
	return nil
}

// noted takes an object that is found changed out of the cache, and its pages out of memory.
func (o *Object) noted(err error) error {
	if errors.Is(err, source.ErrChanged) {
		if o.cache.pages != nil && !o.state.changed.Swap(true) {
			o.cache.pages.dropState(o.state)
		}
		o.cache.drop(o)
	}
	return err
}

func (o *Object) changedError() error { return fmt.Errorf("read %s: %w", o.name, source.ErrChanged) }

// open gives the source's object, which is opened if that was put off until now. It may have become
// another since. It is called by fetches, which wait for one another here.
func (o *Object) open(ctx context.Context) (source.Object, error) {
	if src := o.src.Load(); src != nil {
		return src.Object, nil
	}
	o.opening.Lock()
	defer o.opening.Unlock()
	if src := o.src.Load(); src != nil {
		return src.Object, nil
	}
	src, err := o.cache.openSource(o.name)
	if err != nil {
		return nil, changedIfGone(err)
	}
	if now := src.Info(); !same(o.state.info, now) {
		src.Close()
		return nil, otherError(o.name, o.state.info, now)
	}
	o.src.Store(&opened{src})
	o.keepPrefix(src)
	return src, nil
}

// prefix is what opening an object brought along.
func prefix(src source.Object) []byte {
	if p, ok := src.(source.Prefixed); ok {
		return p.Prefix()
	}
	return nil
}

// keepPrefix makes pages of what opening an object brought along.
func (o *Object) keepPrefix(src source.Object) {
	b := prefix(src)
	if size := o.state.info.Size; int64(len(b)) < size {
		b = b[:len(b)/pageSize*pageSize]
	} else {
		b = b[:size]
	}
	n := pagesIn(int64(len(b)))
	s := o.cache.pages
	if n == 0 || o.damage() != nil || !s.room.TryAcquire(n) {
		return
	}
	places := n
	s.mu.Lock()
	for i := range n {
		k := pageKey{o.state, i}
		if s.kept.Contains(k) {
			continue
		}
		p := s.take(k, false)
		copy(p.data, b[i*pageSize:])
		s.letGo(p)
	}
	s.mu.Unlock()
	s.room.Release(places)
	if o.disk != nil && !o.disk.Has(n-1) {
		o.cache.writer.keep(write{object: o, bytes: b})
	}
}

// Release ends one use of the object. Releasing more often than
// opening is a fault of the caller, and panics where it is found.
func (o *Object) Release() {
	// An object that was only read has nothing to lose when it is closed.
	_ = o.release()
}

func (o *Object) release() (err error) {
	switch refs := o.refs.Add(-1); {
	case refs < 0:
		panic("tilecache: " + o.name + " is released more often than it was opened")
	case refs > 0:
		return nil
	}
	if src := o.src.Load(); src != nil {
		err = src.Close()
	}
	if o.disk != nil {
		o.disk.Close()
	}
	o.cache.openNow.Add(-1)
	return err
}
