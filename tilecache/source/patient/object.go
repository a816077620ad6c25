package patient

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"github.com/tesserafs/tesserafs/tilecache/source"
)

var (
	_ source.Object   = (*object)(nil)
	_ source.Prefixed = prefixedStream{}
	_ source.Streamer = prefixedStream{}
)

// Progressive is an Object whose reads say when bytes come, so that one that stalls is noticed after
// Config.Stall and not only when the time for all of its bytes is up.
type Progressive interface {
	source.Object

	// ReadAtProgress is ReadAt, and calls came whenever bytes have come, with how many; not after it
	// returned. Where it fails, the first n bytes of p are right: another request asks for the others.
	ReadAtProgress(ctx context.Context, p []byte, off int64, came func(n int)) (int, error)
}

// object is an object of the source that is asked.
type object struct {
	source *Source
	name   string
	inner  source.Object

	mu     sync.Mutex // guards what follows
	closed bool
	users  int // requests under way; the last of them closes inner once closed is set
}

// patient is the inner object asked patiently: what that can do besides, it can too.
func (s *Source) patient(name string, inner source.Object) source.Object {
	o := &object{source: s, name: name, inner: inner}
	p, prefixes := inner.(source.Prefixed)
	st, streams := inner.(source.Streamer)
	switch {
	case prefixes && streams:
		return prefixedStream{o, prefixed{p}, streaming{o, st}}
	case prefixes:
		return struct {
			*object
			prefixed
		}{o, prefixed{p}}
	case streams:
		return struct {
			*object
			streaming
		}{o, streaming{o, st}}
	}
	return o
}

// prefixedStream is what objects over a network are.
type prefixedStream struct {
	*object
	prefixed
	streaming
}

// prefixed makes an object one that brought its first bytes along.
type prefixed struct{ inner source.Prefixed }

func (o prefixed) Prefix() []byte { return o.inner.Prefix() }

func (o *object) Info() source.Info { return o.inner.Info() }

// Check asks the object itself, at once and once: remote objects know without a request.
func (o *object) Check(ctx context.Context) error {
	if err := o.use(); err != nil {
		return err
	}
	defer o.done()
	return o.inner.Check(ctx)
}

// ReadAt fills p or fails. The first request of each try reads into p, on this goroutine, and ReadAt
// does not return before it has: nothing writes to p afterwards.
func (o *object) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if err := o.use(); err != nil {
		return 0, err
	}
	defer o.done()
	bytes := int64(len(p))
	if o.unasked(off, bytes) {
		return o.inner.ReadAt(ctx, p, off)
	}
	s := o.source
	here := 0 // bytes of p that came with requests that failed after them
	got, err := call(ctx, s, &request[[]byte]{
		verb:     "read",
		name:     o.name,
		probe:    o.name,
		bytes:    bytes,
		limit:    s.cfg.FirstByte + s.cfg.transfer(bytes),
		patience: s.cfg.Patience + s.cfg.transfer(bytes),
		send: func(ctx context.Context, w *watch) ([]byte, error) {
			n, err := o.fill(ctx, p[here:], off+int64(here), w)
			if err != nil {
				here += min(n, len(p)-here-1)
			}
			return p, err
		},
		again: func(ctx context.Context, w *watch) ([]byte, error) {
			own := make([]byte, len(p))
			_, err := o.fill(ctx, own, off, w)
			return own, err
		},
		buffer: bytes,
		drop:   func([]byte) {},
		size:   func(got []byte) int64 { return int64(len(got)) },
		hold:   o.hold,
		done:   o.done,
	})
	if err != nil {
		return 0, err
	}
	if &got[0] != &p[0] { // of a second request
		copy(p, got)
	}
	return len(p), nil
}

// unasked says whether what is asked for takes no request, and says nothing of the source.
func (o *object) unasked(off, bytes int64) bool {
	return bytes <= 0 || off < 0 || off > o.inner.Info().Size-bytes || off+bytes <= prefixSize(o.inner)
}

// fill is one request. Where it fails, the first n bytes of p are right.
func (o *object) fill(ctx context.Context, p []byte, off int64, w *watch) (n int, err error) {
	shows, ok := o.inner.(Progressive)
	if ok {
		w.expectBytes()
		n, err = shows.ReadAtProgress(ctx, p, off, w.came)
	} else {
		n, err = o.inner.ReadAt(ctx, p, off)
	}
	switch {
	case err == nil && n != len(p):
		return 0, fmt.Errorf("read %s: %d bytes at %d came for %d: %w", o.name, n, off, len(p), io.ErrUnexpectedEOF)
	case err != nil && !ok:
		return 0, err
	}
	return n, err
}

// Close ends the object: later calls fail. Where reads are under way the source's object is closed
// when the last of them has ended, and they go on until then.
func (o *object) Close() error {
	o.mu.Lock()
	if o.closed {
		o.mu.Unlock()
		return o.closedError()
	}
	o.closed = true
	last := o.users == 0
	o.mu.Unlock()
	if last {
		return o.inner.Close()
	}
	return nil
}

func (o *object) closedError() error { return fmt.Errorf("%s: %w", o.name, fs.ErrClosed) }

// use begins a call, which done ends.
func (o *object) use() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return o.closedError()
	}
	o.users++
	return nil
}

// hold keeps the object for one user more, which done ends. The caller is a user.
func (o *object) hold() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.users++
}

func (o *object) done() {
	o.mu.Lock()
	o.users--
	last := o.closed && o.users == 0
	o.mu.Unlock()
	if last {
		closeObject(o.inner)
	}
}
