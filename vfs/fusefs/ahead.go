package fusefs

import (
	"cmp"
	"context"
	"errors"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

const (
	// aheadBuffers bounds what is read ahead, of all files: 16 MiB.
	aheadBuffers = 16

	// maxUnasked is how long something read ahead is kept for a reader who does not ask for it.
	maxUnasked = time.Second

	// maxUnlooked is for how long it is taken to be as it was when it was read.
	maxUnlooked = 10 * time.Millisecond
)

// aheadReads makes the next reply of files that are read from end to end while the kernel takes the one
// before: it asks for one at a time. What is read ahead is read by the tree as all else, looked at
// again if it has waited, and given as it is, without a copy; what failed and has waited is read again. It
// takes a processor that has nothing else to do: with as many readers as
// processors there is nothing to be gained.
type aheadReads struct {
	s       *Server
	ctx     context.Context // ends with close
	cancel  context.CancelFunc
	running sync.WaitGroup
	reading atomic.Int32 // reads by the tree now, for requests and ahead of them

	mu      sync.Mutex // guards buffers
	buffers [][]byte   // those not in use; nil where one was not needed yet
}

func newAheadReads(s *Server) *aheadReads {
	r := &aheadReads{s: s, buffers: make([][]byte, aheadBuffers)}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r
}

// take gives the buffer that was given back last, which a processor's cache may still hold; ok is false where
// all are in use.
func (r *aheadReads) take() (buf []byte, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := len(r.buffers) - 1
	if last < 0 {
		return nil, false
	}
	buf, r.buffers = r.buffers[last], r.buffers[:last]
	if buf == nil {
		buf = make([]byte, maxRead)
	}
	return buf, true
}

func (r *aheadReads) giveBack(buf []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.buffers = append(r.buffers, buf[:maxRead])
}

// close ends what is under way. Nothing is served any more.
func (r *aheadReads) close() {
	r.cancel()
	r.running.Wait()
}

// read has the tree read, and counts it.
func (r *aheadReads) read(ctx context.Context, h *handle, p []byte, off int64) (int, error) {
	r.reading.Add(1)
	defer r.reading.Add(-1)
	return h.n.file.ReadAt(ctx, p, off)
}

// stream is how far a handle was read.
type stream struct {
	mu   sync.Mutex // guards what follows
	end  int64      // of the request before
	next *aheadPart // nil: nothing
}

// aheadPart is a part of a file that is read ahead.
type aheadPart struct {
	from   *aheadReads
	off    int64
	data   []byte
	cancel context.CancelFunc
	users  atomic.Int32  // the reading, and whoever claims or drops the part: the last gives the buffer back
	done   chan struct{} // closed when the reading has ended
	err    error         // of that
	ended  time.Time
	unused *time.Timer
}

// claim takes what was read ahead for a request, if anything was, and waits for it. Anything else that
// was read ahead is dropped. It returns neither a reply nor an error where the request is to be answered as
// if nothing had been read.
func (h *handle) claim(ctx context.Context, off int64, n int) (fuse.ReadResult, error) {
	h.stream.mu.Lock()
	p := h.stream.next
	h.stream.next = nil
	h.stream.mu.Unlock()
	if p == nil {
		return nil, nil
	}
	if p.off == off && len(p.data) >= n {
		p.unused.Stop()
		select {
		case <-p.done:
			switch fresh := time.Since(p.ended) < maxUnlooked; {
			case p.err != nil && fresh && !errors.Is(p.err, context.Canceled):
				err := p.err
				p.drop()
				return nil, err
			case p.err == nil && (fresh || h.n.s.check(ctx, h.n.file) == nil):
				p.data = p.data[:n]
				return p, nil
			}
		case <-ctx.Done():
		}
	}
	p.drop()
	return nil, nil
}

// goOn reads ahead what comes after a request, if it looks as if that were asked for next.
func (h *handle) goOn(off int64, n int) {
	st := &h.stream
	st.mu.Lock()
	defer st.mu.Unlock()
	onwards := off == st.end // also at the first byte of the file
	st.end = off + int64(n)
	if onwards && n == maxRead && st.end < h.size && st.next == nil {
		st.next = h.n.s.ahead.start(h, st.end, int(min(maxRead, h.size-st.end)))
	}
}

// start reads a part of a file; nil where no processor or no buffer is free.
func (r *aheadReads) start(h *handle, off int64, n int) *aheadPart {
	if int(r.reading.Load())+1 >= runtime.GOMAXPROCS(0) {
		return nil
	}
	buf, ok := r.take()
	if !ok {
		return nil
	}
	if !h.n.g.users.enter() { // which the reading leaves, maybe after the handle
		r.giveBack(buf)
		return nil
	}
	p := &aheadPart{from: r, off: off, data: buf[:n], done: make(chan struct{})}
	p.users.Store(2)
	var ctx context.Context
	ctx, p.cancel = context.WithCancel(r.ctx)
	p.unused = time.AfterFunc(maxUnasked, func() { h.stream.drop(p) })
	r.running.Go(func() {
		defer h.n.g.users.leave()
		defer p.leave()
		defer close(p.done)
		defer func() {
			if v := recover(); v != nil {
				p.err = errors.New("panic")
				r.s.logPanic(v)
			}
		}()
		got, err := r.read(ctx, h, p.data, off)
		if got != n {
			p.err = cmp.Or(err, io.ErrUnexpectedEOF)
		}
		p.ended = time.Now()
	})
	return p
}

// drop gives up what was read ahead, if it is still there: p, or whatever it is with nil.
func (st *stream) drop(p *aheadPart) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.next != nil && (p == nil || p == st.next) {
		st.next.drop()
		st.next = nil
	}
}

// drop gives a part up.
func (p *aheadPart) drop() {
	p.unused.Stop()
	p.cancel()
	p.leave()
}

func (p *aheadPart) leave() {
	if p.users.Add(-1) == 0 {
		p.from.giveBack(p.data)
	}
}

// A part is the reply it was read for: its buffer is in use until that is written. Of what has Slices go-fuse
// calls Done after it has written them; of what only has Bytes before, when another read may fill the buffer.

func (p *aheadPart) Slices() ([][]byte, fuse.Status)    { return [][]byte{p.data}, fuse.OK }
func (p *aheadPart) Bytes([]byte) ([]byte, fuse.Status) { return nil, fuse.EIO }
func (p *aheadPart) Size() int                          { return len(p.data) }
func (p *aheadPart) Done()                              { p.drop() }
