package patient

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/failsafe-go/failsafe-go"

	"github.com/tesserafs/tesserafs/tilecache/source"
)

// errPatience ends a call whose time is up.
var errPatience = errors.New("all patience is used up")

// request is what a call asks of the source, as often as it takes.
type request[T any] struct {
	verb, name string // for errors: "open", "a.npy"
	probe      string // the object to open to find out whether the source lives again
	bytes      int64  // that are asked for
	limit      time.Duration
	patience   time.Duration

	send func(context.Context, *watch) (T, error)

	// again is sent beside a request that is slow; nil for requests that are not sent twice, and
	// what follows is not used then.
	again  func(context.Context, *watch) (T, error)
	buffer int64         // bytes of memory that it takes
	drop   func(T)       // ends a result that nobody takes
	size   func(T) int64 // bytes that came with a result
	hold   func()        // before again may be sent; nil where there is nothing to hold
	done   func()        // after it
}

// call asks until there is an answer, or until the caller's context ends, patience does, or the source
// is found dead, whichever comes first.
func call[T any](ctx context.Context, s *Source, r *request[T]) (T, error) {
	var none T
	if err := ctx.Err(); err != nil {
		return none, r.wrap(err)
	}
	if err := s.enter(); err != nil {
		return none, r.wrap(err)
	}
	defer s.running.Done()
	alive, dead := s.breaker.state()
	if dead != nil {
		s.counts.unavailable.Add(1)
		return none, r.wrap(dead)
	}
	waiting, end := context.WithTimeoutCause(ctx, r.patience, errPatience)
	defer end()
	patient, cut := context.WithCancelCause(waiting)
	defer cut(nil)
	defer context.AfterFunc(alive, func() { cut(context.Cause(alive)) })()

	t := tries[T]{began: time.Now()}
	// What comes of it is in t: the policy answers with the context's error where that has ended,
	// even when the last try brought a result.
	_ = failsafe.With(s.retries).WithContext(patient).Run(func() error { return t.once(patient, s, r) })
	switch {
	case t.answer != nil:
		return t.answer.result, t.answer.err
	case ctx.Err() != nil:
		return none, r.wrap(ctx.Err())
	}
	cause := context.Cause(patient)
	if errors.Is(cause, fs.ErrClosed) {
		return none, r.wrap(cause)
	}
	s.counts.unavailable.Add(1)
	if errors.As(cause, &dead) {
		return none, r.wrap(dead)
	}
	return none, r.wrap(t.unavailable())
}

// tries is how far a call has come.
type tries[T any] struct {
	began  time.Time
	sent   int
	answer *outcome[T] // nil: there is none yet
	last   error       // why the last try failed
}

// once is one try. It returns nil when there is no use in another.
func (t *tries[T]) once(ctx context.Context, s *Source, r *request[T]) error {
	if err := s.takePlace(ctx); err != nil {
		return err
	}
	defer s.places.ReleasePermit()
	if t.sent++; t.sent > 1 {
		s.counts.retries.Add(1)
	}
	o := try(ctx, s, r, t.sent == 1)
	switch {
	case o.kind.isAnswer():
		t.answer = &o
		return nil
	case o.kind == cut:
		return o.err // The context has ended, and the retries with it.
	}
	t.last = notOfContext(o.err)
	if after := askedFor(o.err); after > 0 && after > r.patience-time.Since(t.began) {
		t.last = fmt.Errorf("it asks to be left alone for %v: %w", after, t.last)
		return nil
	}
	return o.err
}

// unavailable is the error after all patience.
func (t *tries[T]) unavailable() error {
	took := time.Since(t.began).Round(time.Millisecond)
	switch {
	case t.sent == 0:
		return fmt.Errorf("%w: no turn came within %v, the requests of others took it all", source.ErrUnavailable, took)
	case t.last == nil:
		return fmt.Errorf("%w: no answer to 1 attempt within %v", source.ErrUnavailable, took)
	case t.sent == 1:
		return fmt.Errorf("%w: 1 attempt in %v: %w", source.ErrUnavailable, took, t.last)
	}
	return fmt.Errorf("%w: %d attempts in %v, the last: %w", source.ErrUnavailable, t.sent, took, t.last)
}

// notOfContext keeps a source's own timeouts, some of which are context.DeadlineExceeded (those of
// net/http are), from looking as if the caller's context had ended.
func notOfContext(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return errors.New(err.Error())
	}
	return err
}

func (r *request[T]) wrap(err error) error { return fmt.Errorf("%s %s: %w", r.verb, r.name, err) }

// takePlace waits for one of the places of requests under way: first come, first served.
func (s *Source) takePlace(ctx context.Context) error {
	if s.places.TryAcquirePermit() {
		return nil
	}
	s.counts.waiting.Add(1)
	defer s.counts.waiting.Add(-1)
	if err := s.places.AcquirePermit(ctx); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil { // A place was free just as the wait ended.
		s.places.ReleasePermit()
		return err
	}
	return nil
}
