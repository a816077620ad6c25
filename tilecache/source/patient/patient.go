package patient

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path"
	"sync"
	"sync/atomic"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/retrypolicy"

	"github.com/tesserafs/tesserafs/tilecache/source"
)

var _ source.Revalidator = (*Source)(nil)

// openBytes is what opening an object is taken to bring: the prefix that remote sources ask for.
const openBytes = 32 << 10

// Source is a source that is asked patiently. All methods may be called by many goroutines at once.
type Source struct {
	src source.Source
	cfg Config

	places  bulkhead.Bulkhead[any] // one for each request under way
	retries retrypolicy.RetryPolicy[any]
	breaker breaker
	pace    estimator
	hedges  allowance
	counts  counters
	beside  atomic.Int64 // bytes of the buffers of second requests under way

	life context.Context // of everything; Close ends it
	end  context.CancelCauseFunc

	mu      sync.Mutex // guards closed, so that nothing begins once Close waits
	closed  bool
	running sync.WaitGroup // calls, second requests, streams, and what asks a dead source
}

// New asks a source patiently. Close ends it; src itself is the caller's.
func New(src source.Source, cfg Config) *Source {
	cfg = cfg.withDefaults()
	s := &Source{src: src, cfg: cfg}
	s.life, s.end = context.WithCancelCause(context.Background())
	s.places = bulkhead.New[any](uint(cfg.InFlight))
	s.retries = retrypolicy.NewBuilder[any]().WithMaxRetries(-1).WithDelayFunc(s.pause).ReturnLastFailure().Build()
	s.breaker.init(s.life, cfg)
	s.pace.connections = cfg.InFlight
	s.hedges.init(cfg.Hedged)
	return s
}

// String names the source that is asked.
func (s *Source) String() string { return s.src.String() }

// Open finds an object. It fails as the source does where that is an answer, and with
// source.ErrUnavailable after all patience.
func (s *Source) Open(ctx context.Context, name string) (source.Object, error) {
	inner, err := call(ctx, s, &request[source.Object]{
		verb:     "open",
		name:     name,
		probe:    name,
		bytes:    openBytes,
		limit:    s.cfg.FirstByte + s.cfg.transfer(openBytes),
		patience: s.cfg.Patience + s.cfg.transfer(openBytes),
		send:     func(ctx context.Context, _ *watch) (source.Object, error) { return s.src.Open(ctx, name) },
		again:    func(ctx context.Context, _ *watch) (source.Object, error) { return s.src.Open(ctx, name) },
		drop:     closeObject,
		size:     prefixSize,
	})
	if err != nil {
		return nil, err
	}
	return s.patient(name, inner), nil
}

// Unchanged asks the source, with retries; of one that cannot tell it is false. It is not sent twice.
func (s *Source) Unchanged(ctx context.Context, name string, info source.Info) (bool, error) {
	src, ok := s.src.(source.Revalidator)
	if !ok {
		return false, nil
	}
	return call(ctx, s, &request[bool]{
		verb:     "ask for",
		name:     name,
		probe:    name,
		limit:    s.cfg.FirstByte,
		patience: s.cfg.Patience,
		send:     func(ctx context.Context, _ *watch) (bool, error) { return src.Unchanged(ctx, name, info) },
	})
}

// closeObject ends an object that nobody has read from, and which so has nothing to lose.
func closeObject(o source.Object) { _ = o.Close() }

// prefixSize is how many bytes came with an object.
func prefixSize(o source.Object) int64 {
	if p, ok := o.(source.Prefixed); ok {
		return int64(len(p.Prefix()))
	}
	return 0
}

// List says what lies under a directory, as the source does, with retries. A listing is not sent
// twice, and may take Config.Listing.
func (s *Source) List(ctx context.Context, name string, withInfo bool) ([]source.Entry, error) {
	return call(ctx, s, &request[[]source.Entry]{
		verb: "list",
		name: name,
		// Whether it is there or not is an answer.
		probe:    path.Join(name, "manifest.parquet"),
		limit:    s.cfg.Listing,
		patience: s.cfg.Listing,
		send: func(ctx context.Context, _ *watch) ([]source.Entry, error) {
			return s.src.List(ctx, name, withInfo)
		},
	})
}

// Pace is how the source has answered of late; zero before it has shown it.
func (s *Source) Pace() source.Pace { return s.pace.now() }

// Close ends the calls and streams under way, which fail with fs.ErrClosed as all later ones do, and
// waits for them. Objects that are open are still to be closed.
func (s *Source) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.end(fmt.Errorf("%s is %w", s, fs.ErrClosed))
	s.running.Wait()
	return nil
}

// enter counts a call among those that run, until running.Done.
func (s *Source) enter() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return context.Cause(s.life)
	}
	s.running.Add(1)
	return nil
}

// pause is how long to wait before a retry: what the server asks for, and a random part of a time
// that doubles (full jitter), so that those who failed together do not come back together.
func (s *Source) pause(tried failsafe.ExecutionAttempt[any]) time.Duration {
	longest := min(s.cfg.MaxBackoff, s.cfg.Backoff<<min(tried.Retries(), 16))
	return askedFor(tried.LastError()) + 1 + rand.N(longest)
}

// askedFor is how long a failure asks to be left alone.
func askedFor(err error) time.Duration {
	var t *source.Transient
	if errors.As(err, &t) {
		return max(0, t.After)
	}
	return 0
}
