package patient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tesserafs/tesserafs/tilecache/source"
)

// errLate ends a stream whose header or next bytes take too long.
const errLate = slow("it stalls")

// streaming makes an object one that brings a long run of bytes by one request.
type streaming struct {
	object *object
	inner  source.Streamer
}

// Stream is one request, which has a place until it is over, and is not sent again. Besides as the
// object's own it fails as all calls do: where the source is dead or dies, where no place comes free in
// Config.Patience, and with fs.ErrClosed when Source.Close ends it.
func (o streaming) Stream(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	if err := o.object.use(); err != nil {
		return nil, err
	}
	if o.object.unasked(off, n) {
		defer o.object.done()
		return o.inner.Stream(ctx, off, n)
	}
	s := o.object.source
	r := request[io.ReadCloser]{verb: "read", name: o.object.name}
	st := &stream{object: o.object, request: r, caller: ctx, want: n, waiting: true}
	err := ctx.Err()
	if err == nil {
		err = s.enter()
	}
	if err != nil {
		o.object.done()
		return nil, r.wrap(err)
	}
	alive, dead := s.breaker.state()
	st.ctx, st.end = context.WithCancelCause(ctx)
	st.apart = context.AfterFunc(alive, func() { st.end(context.Cause(alive)) })
	st.left = context.AfterFunc(st.ctx, st.abandon)
	if dead != nil {
		s.counts.unavailable.Add(1)
		err = r.wrap(dead)
	} else {
		err = st.begin(o.inner, off)
	}
	if err = st.waited(err); err != nil {
		return nil, err
	}
	return st, nil
}

// stream is a request whose bytes are taken as they come. It lets go of all it has when it is over,
// also where it is the end of a context that ends it and nobody reads or closes it.
type stream struct {
	object  *object
	request request[io.ReadCloser]
	caller  context.Context
	ctx     context.Context // of the request; ends with the caller's, with the source, and by end
	end     context.CancelCauseFunc
	apart   func() bool // from the source's life
	left    func() bool // keeps the end of ctx from calling abandon

	// Of who waits for the source: of Stream, then of Read, one at a time.
	placed bool          // it has one of the places
	inner  io.ReadCloser // nil before the header came
	timer  *time.Timer   // calls late; runs while the source is waited for
	want   int64         // bytes
	got    int64
	sent   time.Time
	read   time.Time     // when the last Read ended
	paused time.Duration // between Reads
	wait   atomic.Int64  // how long the source is waited for, in nanoseconds; late makes it longer

	mu      sync.Mutex    // guards what follows
	since   time.Time     // when the wait began
	waiting bool          // somebody waits for the source, and sees what becomes of ctx meanwhile
	more    time.Duration // how much longer where the source may not be asked again
	err     error         // of all later Reads; nil until it is over
}

// begin sends the request.
func (st *stream) begin(inner source.Streamer, off int64) error {
	s := st.object.source
	t := tries[io.ReadCloser]{began: time.Now()}
	patient, end := context.WithTimeoutCause(st.ctx, s.cfg.Patience, errPatience)
	defer end()
	if err := s.takePlace(patient); err != nil {
		if st.ctx.Err() != nil {
			return st.why(err)
		}
		s.counts.unavailable.Add(1)
		return st.request.wrap(t.unavailable())
	}
	st.placed = true
	s.counts.requests.Add(1)
	s.counts.inFlight.Add(1)
	s.hedges.earn()
	st.sent = time.Now()
	st.mu.Lock()
	st.since = st.sent
	st.timer = time.AfterFunc(st.limit(0, s.cfg.FirstByte), st.late)
	st.mu.Unlock()
	body, err := guarded(st.ctx, nil, &st.request, func(ctx context.Context, _ *watch) (io.ReadCloser, error) {
		return inner.Stream(ctx, off, st.want)
	})
	st.timer.Stop()
	if err != nil {
		return st.why(err)
	}
	st.inner, st.read = body, time.Now()
	s.noteAnswer()
	return nil
}

// ask is a Read of the source's own. A panic in it is an error, as everywhere: the stream lets go of what it has.
func (st *stream) ask(p []byte) (n int, err error) {
	defer func() {
		if p := recover(); p != nil {
			n, err = 0, st.request.wrap(fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
		}
	}()
	return st.inner.Read(p)
}

// limit says how long the source is waited for, first: as long as a request is before it is sent a second time. The
// caller holds mu.
func (st *stream) limit(bytes int64, most time.Duration) time.Duration {
	wait := most
	if expected := st.object.source.pace.expect(bytes); expected > 0 {
		wait = min(max(hedgeAfter, hedgeFactor*expected), most)
	}
	st.wait.Store(int64(wait))
	st.more = most - wait
	return wait
}

// late ends the stream that has waited long. Its caller asks the source again for that, so that counts as a second
// request does; where no more of those may be sent it goes on waiting.
func (st *stream) late() {
	st.mu.Lock()
	defer st.mu.Unlock()
	switch {
	case !st.waiting, time.Since(st.since) < time.Duration(st.wait.Load()): // It was for the Read before.
	case st.more > 0 && !st.object.source.hedges.spend():
		st.timer.Reset(st.more)
		st.wait.Add(int64(st.more))
		st.more = 0
	default:
		st.end(errLate)
	}
}

// Read waits for the next bytes about as long as a read is waited for before it is sent a second time.
func (st *stream) Read(p []byte) (int, error) {
	st.mu.Lock()
	if st.err != nil || len(p) == 0 {
		defer st.mu.Unlock()
		return 0, st.err
	}
	st.waiting, st.since = true, time.Now()
	s := st.object.source
	st.timer.Reset(st.limit(min(int64(len(p)), st.want-st.got), s.cfg.Stall))
	st.mu.Unlock()
	st.paused += time.Since(st.read)
	if took := time.Since(st.sent) - st.paused; took > s.cfg.FirstByte+s.cfg.transfer(st.got) {
		st.timer.Stop()
		s.counts.failures[timedOut].Add(1)
		return 0, st.waited(st.request.wrap(&source.Transient{Err: fmt.Errorf("%d bytes came in %v", st.got, took.Round(time.Millisecond))}))
	}
	n, err := st.ask(p)
	st.timer.Stop()
	st.read = time.Now()
	if n > 0 {
		st.got += int64(n)
		s.counts.bytes.Add(int64(n))
		s.breaker.heard()
		st.show()
	}
	switch {
	case err == nil:
		_ = st.waited(nil) // These bytes came; what has ended the stream meanwhile is for the next Read.
		return n, nil
	case !errors.Is(err, io.EOF):
		err = st.why(err)
	case st.got != st.want:
		err = st.request.wrap(fmt.Errorf("%d bytes came for %d: %w", st.got, st.want, io.ErrUnexpectedEOF))
	default:
		err = io.EOF
	}
	return n, st.waited(err)
}

// waited ends the wait for the source, and the stream where that is over.
func (st *stream) waited(err error) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.waiting = false
	if err == nil && st.ctx.Err() != nil {
		err = st.why(st.ctx.Err())
	}
	if err != nil {
		st.over(err)
	}
	return err
}

// Close ends the request, and a Read under way.
func (st *stream) Close() error {
	st.left()
	st.end(fs.ErrClosed)
	st.abandon()
	return nil
}

// abandon ends a stream whose context has ended. Who waits for the source ends it by himself.
func (st *stream) abandon() {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.err == nil && !st.waiting {
		st.over(st.why(st.ctx.Err()))
	}
}

// show lets the pace be learned from a stream that has come whole and was not kept waiting by its reader.
func (st *stream) show() {
	if took := st.read.Sub(st.sent); st.got == st.want && st.paused <= took/10 {
		st.object.source.pace.saw(st.got, took)
	}
}

// why judges what ended the stream, and counts it. It is not held against the source: the reads that ask
// for what is missing find out.
func (st *stream) why(err error) error {
	s := st.object.source
	kind, err := judge(st.ctx, err)
	if st.placed {
		s.counts.failures[kind].Add(1)
	}
	var dead *dead
	switch {
	case kind.isLife():
		s.noteAnswer()
		return err
	case kind == timedOut && st.inner == nil:
		return st.request.wrap(&source.Transient{Err: fmt.Errorf("no byte came within %v", time.Duration(st.wait.Load()))})
	case kind == timedOut:
		return st.request.wrap(&source.Transient{Err: fmt.Errorf("%w: no byte came for %v", errLate, time.Duration(st.wait.Load()))})
	case kind == transient:
		return &source.Transient{After: askedFor(err), Err: notOfContext(err)}
	case kind != cut:
		return err
	case st.caller.Err() != nil:
		return st.request.wrap(st.caller.Err())
	case errors.As(context.Cause(st.ctx), &dead):
		s.counts.unavailable.Add(1)
	}
	return st.request.wrap(context.Cause(st.ctx))
}

// over lets go of all that the stream has, once. The caller holds mu, and nobody waits for the source.
func (st *stream) over(err error) {
	s := st.object.source
	st.err = err
	st.apart()
	st.left()
	st.end(fs.ErrClosed)
	if st.placed {
		s.counts.inFlight.Add(-1)
		s.places.ReleasePermit()
	}
	defer s.running.Done()
	defer st.object.done()
	if st.inner != nil {
		defer func() { _ = recover() }() // It has nothing to lose, and what was read is right.
		_ = st.inner.Close()
	}
}
