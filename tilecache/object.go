package tilecache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/tesserafs/tesserafs/tilecache/source"
)

// Object is one object of a source, held open. All methods may be called by many goroutines at
// once, between Open and Release.
type Object struct {
	cache *Cache
	name  string
	src   source.Object
	info  source.Info

	refs atomic.Int64 // holders, and the cache while it keeps the object; closed at 0
}

func (c *Cache) newObject(name string, src source.Object) *Object {
	c.openNow.Add(1)
	o := &Object{cache: c, name: name, src: src, info: src.Info()}
	o.refs.Store(1)
	return o
}

// Name is the name the object was opened by.
func (o *Object) Name() string { return o.name }

// Info is the state the object had when it was opened.
func (o *Object) Info() source.Info { return o.info }

// ReadAt fills p from offset off, whole, or fails: io.ErrUnexpectedEOF beyond the end,
// source.ErrChanged when the object is no longer what it was.
func (o *Object) ReadAt(ctx context.Context, p []byte, off int64) error {
	n, err := o.src.ReadAt(ctx, p, off)
	if err == nil && n != len(p) {
		err = fmt.Errorf("read %s: %d bytes at %d came for %d: %w", o.name, n, off, len(p), io.ErrUnexpectedEOF)
	}
	if err != nil {
		return o.noted(err)
	}
	o.cache.read.Add(int64(n))
	return nil
}

// ReadRanges fills all ranges, whole, or fails as ReadAt does.
func (o *Object) ReadRanges(ctx context.Context, ranges []source.Range) error {
	if r, ok := o.src.(source.Ranger); ok {
		if err := r.ReadRanges(ctx, ranges); err != nil {
			return o.noted(err)
		}
		n := 0
		for _, r := range ranges {
			n += len(r.P)
		}
		o.cache.read.Add(int64(n))
		return nil
	}
	for _, r := range ranges {
		if err := o.ReadAt(ctx, r.P, r.Off); err != nil {
			return err
		}
	}
	return nil
}

// Check fails with source.ErrChanged when the object under the name is no longer the one that was
// opened. How soon that is noticed is the source's to say.
func (o *Object) Check(ctx context.Context) error {
	return o.noted(o.src.Check(ctx))
}

// noted takes an object that is found changed out of the cache.
func (o *Object) noted(err error) error {
	if errors.Is(err, source.ErrChanged) {
		o.cache.drop(o)
	}
	return err
}

// Release ends one use of the object. Releasing more often than
// opening is a fault of the caller, and panics where it is found.
func (o *Object) Release() {
	// An object that was only read has nothing to lose when it is closed.
	_ = o.release()
}

func (o *Object) release() error {
	switch refs := o.refs.Add(-1); {
	case refs < 0:
		panic("tilecache: " + o.name + " is released more often than it was opened")
	case refs > 0:
		return nil
	}
	err := o.src.Close()
	o.cache.openNow.Add(-1)
	return err
}
