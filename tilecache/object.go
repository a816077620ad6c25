package tilecache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
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

	mapping atomic.Pointer[mapping] // set by the first Refer
	mu      sync.Mutex              // guards the setting of mapping
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

// Refer gives n bytes at offset off in place, until Release: the same bytes that ReadAt copies. Hand
// them to a system call that writes them, and never touch them: they may be gone (the call then
// fails with EFAULT). It gives nil where the source cannot map its objects; use ReadAt.
//
// It fails with io.ErrUnexpectedEOF beyond the end, and with source.ErrChanged where the object is
// found shorter now. It does not find every change; Check does, and is called after the last Refer
// of a reply.
func (o *Object) Refer(off int64, n int) ([]byte, error) {
	m := o.mapping.Load()
	if m == nil {
		var err error
		if m, err = o.mapped(); m == nil {
			return nil, err
		}
	}
	if off < 0 || n < 0 || off > int64(len(m.bytes))-int64(n) {
		return nil, fmt.Errorf("refer %s: %d bytes at %d of %d: %w", o.name, n, off, o.info.Size, io.ErrUnexpectedEOF)
	}
	if err := o.cache.stripes.use(m, int(off), n); err != nil {
		if changed := o.Check(context.Background()); changed != nil {
			return nil, changed
		}
		return nil, fmt.Errorf("refer %s: %d bytes at %d cannot be read: %w", o.name, n, off, err)
	}
	o.cache.referred.Add(int64(n))
	return m.bytes[off : off+int64(n) : off+int64(n)], nil
}

// mapped maps the object. It gives nil where the source cannot.
func (o *Object) mapped() (*mapping, error) {
	mapper, ok := o.src.(source.Mapper)
	if !ok {
		return nil, nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if m := o.mapping.Load(); m != nil {
		return m, nil
	}
	bytes, err := mapper.Map()
	if err != nil {
		return nil, err
	}
	if int64(len(bytes)) != o.info.Size {
		return nil, fmt.Errorf("map %s: %d bytes of %d", o.name, len(bytes), o.info.Size)
	}
	m := newMapping(bytes)
	o.mapping.Store(m)
	return m, nil
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

// Release ends one use of the object, and of what was referred to in it. Releasing more often than
// opening is a fault of the caller, and panics where it is found.
func (o *Object) Release() {
	// An object that was only read has nothing to lose when it is closed.
	_ = o.release()
}

func (o *Object) release() error {
	switch refs := o.refs.Add(-1); {
	case refs < 0:
		panic("tilecache: " + o.name + " is released more often than it was opened")
	case refs == 1:
		if m := o.mapping.Load(); m != nil {
			o.cache.stripes.unmapAgain(m)
		}
		return nil
	case refs > 1:
		return nil
	}
	if m := o.mapping.Load(); m != nil {
		o.cache.stripes.forget(m)
	}
	err := o.src.Close()
	o.cache.openNow.Add(-1)
	return err
}
