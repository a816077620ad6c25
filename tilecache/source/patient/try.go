package patient

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/tesserafs/tesserafs/tilecache/source"
)

// kind is what came of a request.
type kind int

const (
	done    kind = iota
	missing      // an answer: there is no such object
	denied       // an answer
	other        // every other error that is not worth a retry, and so is taken for an answer
	changed      // an answer, which an object that was found changed gives by itself from then on
	unasked      // an answer that the source gives by itself: the name is no name, it cannot list
	transient
	timedOut
	cut // The request was ended from here, which says nothing of the source.
	kinds
)

// kindNames are the keys of Stats.Failures; the kinds without a name are not failures.
var kindNames = [kinds]string{
	missing: "missing", denied: "denied", changed: "changed", other: "other", transient: "transient", timedOut: "timeout",
}

func (k kind) isAnswer() bool  { return k <= unasked }
func (k kind) isFailure() bool { return k == transient || k == timedOut }

// isLife says whether it shows that the source lives.
func (k kind) isLife() bool { return k <= other }

// outcome is what came of a request, judged.
type outcome[T any] struct {
	kind   kind
	result T
	err    error
}

// ask sends one request, for which the caller has a place, on this goroutine. The context is the
// request's own, and end is what ends it.
func ask[T any](ctx context.Context, end context.CancelCauseFunc, s *Source, r *request[T],
	send func(context.Context, *watch) (T, error),
) (outcome[T], time.Duration) {
	s.counts.requests.Add(1)
	s.counts.inFlight.Add(1)
	defer s.counts.inFlight.Add(-1)
	began := time.Now()
	w := newWatch(s, r.limit, end)
	o := outcome[T]{}
	o.result, o.err = guarded(ctx, w, r, send)
	w.timer.Stop()
	took := time.Since(began)
	o.kind, o.err = judge(ctx, o.err)
	s.counts.failures[o.kind].Add(1)
	if o.kind == done && r.size != nil {
		s.counts.bytes.Add(r.size(o.result))
		s.counts.latency.add(took)
	}
	switch {
	case o.kind.isLife():
		s.noteAnswer()
	case o.kind.isFailure():
		s.noteFailure(r.probe, began, o.err)
	}
	return o, took
}

// guarded makes an error of a panic, which ends the process where it is on a goroutine of this room's
// own.
func guarded[T any](ctx context.Context, w *watch, r *request[T], send func(context.Context, *watch) (T, error)) (result T, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = r.wrap(fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
		}
	}()
	return send(ctx, w)
}

// judge says what an error means. What the source says counts before the end of the request's
// context, and of the ends of a context only those by the watch are the source's failure.
func judge(ctx context.Context, err error) (kind, error) {
	var late slow
	var again *source.Transient
	switch {
	case err == nil:
		return done, nil
	case errors.Is(err, source.ErrChanged):
		return changed, err
	case errors.Is(err, fs.ErrNotExist):
		return missing, err
	case errors.Is(err, fs.ErrPermission):
		return denied, err
	case errors.Is(err, fs.ErrInvalid), errors.Is(err, errors.ErrUnsupported), errors.Is(err, fs.ErrClosed):
		return unasked, err
	case errors.As(context.Cause(ctx), &late):
		return timedOut, late
	case ctx.Err() != nil:
		return cut, err
	case errors.As(err, &again):
		return transient, err
	}
	return other, err
}

// slow is the error of a request that the watch has ended. It says nothing of contexts, so that nobody
// takes it for the end of the caller's.
type slow string

func (e slow) Error() string { return string(e) }

// watch ends a request that takes too long.
type watch struct {
	source *Source
	end    context.CancelCauseFunc
	timer  *time.Timer
	limit  time.Duration
	until  time.Time
	first  atomic.Bool // the first byte came
}

func newWatch(s *Source, limit time.Duration, end context.CancelCauseFunc) *watch {
	w := &watch{source: s, end: end, limit: limit, until: time.Now().Add(limit)}
	w.timer = time.AfterFunc(limit, w.expire)
	return w
}

// expectBytes says that came will be called.
func (w *watch) expectBytes() { w.timer.Reset(min(w.source.cfg.FirstByte, w.limit)) }

// came notes that bytes have come.
func (w *watch) came(int) {
	w.first.Store(true)
	w.timer.Reset(min(w.source.cfg.Stall, time.Until(w.until)))
	w.source.breaker.heard()
}

func (w *watch) expire() {
	switch {
	case !time.Now().Before(w.until):
		w.end(slow(fmt.Sprintf("not done within %v", w.limit)))
	case w.first.Load():
		w.end(slow(fmt.Sprintf("no byte came for %v", w.source.cfg.Stall)))
	default:
		w.end(slow(fmt.Sprintf("no byte came within %v", w.source.cfg.FirstByte)))
	}
}
