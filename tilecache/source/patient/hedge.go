package patient

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

const (
	hedgeFactor  = 3                      // a request this many times slower than expected is sent again,
	hedgeAfter   = 200 * time.Millisecond // but none sooner than this
	hedgeMemory  = 16 << 20               // bytes of all buffers of second requests under way
	hedgesSaved  = 10                     // second requests that may be sent at once after many went without
	hedgesToHave = 1                      // and from the start
)

var (
	errOvertaken = errors.New("another request was quicker")
	errUnsent    = errors.New("no second request was sent")
)

// try sends a request, and a second one beside it when that is slow. It returns once the first has
// ended, for only then is the caller's buffer its own again; a second one that is no longer wanted
// ends by itself, with its own buffer.
func try[T any](ctx context.Context, s *Source, r *request[T], shows bool) outcome[T] {
	own, end := context.WithCancelCause(ctx)
	defer end(nil)
	s.hedges.earn()
	x := arm(ctx, s, r, end)
	first, took := ask(own, end, s, r, r.send)
	alone := x == nil || x.stop()
	if shows && first.kind == done && r.size != nil && (alone || !x.sent.Load()) {
		s.pace.saw(r.size(first.result), took)
	}
	if alone {
		return first
	}
	if first.kind.isAnswer() || ctx.Err() != nil {
		x.leave(r)
		return first
	}
	select {
	case <-x.ended:
	case <-ctx.Done():
		x.leave(r)
		return first
	}
	if x.outcome.kind.isAnswer() {
		s.counts.hedgesWon.Add(1)
		return x.outcome
	}
	return first
}

// second is the request that is sent beside a slow one.
type second[T any] struct {
	timer *time.Timer
	stand func() // what was held for it
	end   context.CancelCauseFunc
	sent  atomic.Bool
	ended chan struct{} // closed when outcome is there

	mu       sync.Mutex // guards what follows until ended is closed
	outcome  outcome[T]
	unwanted bool // the call went on without it
	over     bool
}

// arm makes a second request wait for the first, which overtake ends; nil where none may be sent.
func arm[T any](ctx context.Context, s *Source, r *request[T], overtake context.CancelCauseFunc) *second[T] {
	expected := s.pace.expect(r.bytes)
	if r.again == nil || expected == 0 || s.cfg.Hedged < 0 {
		return nil
	}
	own, end := context.WithCancelCause(ctx)
	x := &second[T]{end: end, ended: make(chan struct{})}
	s.running.Add(1) // The call that arms it runs, so Close is not past its wait.
	if r.hold != nil {
		r.hold()
	}
	x.stand = func() {
		end(nil)
		if r.done != nil {
			r.done()
		}
		s.running.Done()
	}
	x.timer = time.AfterFunc(max(hedgeAfter, hedgeFactor*expected), func() {
		defer x.stand()
		o := x.send(own, s, r)
		if o.kind.isAnswer() {
			overtake(errOvertaken)
		}
		x.finish(r, o)
	})
	return x
}

// send sends it, if there is a place, memory and allowance for it.
func (x *second[T]) send(ctx context.Context, s *Source, r *request[T]) outcome[T] {
	unsent := outcome[T]{kind: cut, err: errUnsent}
	if !s.places.TryAcquirePermit() {
		return unsent // The others need the source more.
	}
	defer s.places.ReleasePermit()
	defer s.beside.Add(-r.buffer)
	if s.beside.Add(r.buffer) > hedgeMemory || !s.hedges.spend() {
		return unsent
	}
	x.sent.Store(true)
	s.counts.hedges.Add(1)
	o, _ := ask(ctx, x.end, s, r, r.again)
	return o
}

// finish hands the outcome to the call, or drops what nobody takes.
func (x *second[T]) finish(r *request[T], o outcome[T]) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.outcome, x.over = o, true
	if x.unwanted {
		x.drop(r)
	}
	close(x.ended)
}

// stop says that it was not sent, and will not be.
func (x *second[T]) stop() bool {
	if !x.timer.Stop() {
		return false
	}
	x.stand()
	return true
}

// leave ends it, wherever it is.
func (x *second[T]) leave(r *request[T]) {
	x.end(errOvertaken)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.unwanted = true
	if x.over {
		x.drop(r)
	}
}

func (x *second[T]) drop(r *request[T]) {
	if x.outcome.kind == done {
		r.drop(x.outcome.result)
	}
}

// allowance lets a share of requests be sent twice, so that a source that is slow because it is
// overloaded does not get twice the load.
type allowance struct {
	share float64

	mu   sync.Mutex // guards left
	left float64
}

func (a *allowance) init(share float64) { a.share, a.left = share, hedgesToHave }

// earn counts a request.
func (a *allowance) earn() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.left = min(a.left+a.share, hedgesSaved)
}

// spend asks for a second request.
func (a *allowance) spend() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.left < 1 {
		return false
	}
	a.left--
	return true
}
