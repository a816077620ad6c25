package patient

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/tesserafs/tesserafs/tilecache/source"
)

// dead is why calls fail while the source does not answer.
type dead struct {
	since time.Time
	why   error
	probe string // the object to open to find out whether it lives again
}

func (d *dead) Error() string {
	return fmt.Sprintf("%v since %s: %v", source.ErrUnavailable, d.since.Format(time.RFC3339), d.why)
}

func (d *dead) Unwrap() []error { return []error{source.ErrUnavailable, notOfContext(d.why)} }

// breaker knows whether the source is dead.
type breaker struct {
	life      context.Context
	failures  int
	deadAfter time.Duration
	forget    time.Duration // failures that lie this far apart are not in a row

	mu     sync.Mutex // guards what follows
	alive  context.Context
	kill   context.CancelCauseFunc // ends alive, with a *dead
	dead   *dead                   // nil: it is not
	since  time.Time               // of being alive or dead
	deaths int64
	answer time.Time // when the last answer came
	row    int       // failures since then
	first  time.Time // since when they have kept somebody waiting
	last   time.Time
}

func (b *breaker) init(life context.Context, cfg Config) {
	b.life, b.failures, b.deadAfter = life, cfg.Failures, cfg.DeadAfter
	b.forget = max(cfg.DeadAfter, 2*cfg.MaxBackoff)
	b.revive(time.Now())
}

// revive begins a life. The caller holds mu, or is init.
func (b *breaker) revive(now time.Time) {
	b.dead, b.row, b.since, b.answer = nil, 0, now, now
	b.alive, b.kill = context.WithCancelCause(b.life)
}

// state gives a context that ends when the source dies, or why it is dead.
func (b *breaker) state() (alive context.Context, d *dead) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.alive, b.dead
}

// heard notes bytes of an answer that is not there yet.
func (b *breaker) heard() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answer, b.row = time.Now(), 0
}

// answered notes an answer. It gives back what the source was dead of, if it was.
func (b *breaker) answered() *dead {
	b.mu.Lock()
	defer b.mu.Unlock()
	was := b.dead
	b.answer, b.row = time.Now(), 0
	if was != nil {
		b.revive(b.answer)
	}
	return was
}

// failed notes a failure of a request that began then. It gives back what the source is dead of, if
// that is now.
func (b *breaker) failed(probe string, began time.Time, why error) *dead {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if b.dead != nil {
		return nil
	}
	if b.row == 0 || began.Sub(b.last) > b.forget {
		b.row, b.first = 0, began
		if b.answer.After(began) { // The source answered others in the meantime.
			b.first = b.answer
		}
	}
	b.row++
	b.last = now
	if b.row < b.failures || now.Sub(b.first) < b.deadAfter {
		return nil
	}
	b.dead = &dead{since: b.first, why: why, probe: probe}
	b.since = b.first
	b.deaths++
	b.kill(b.dead)
	return b.dead
}

// noteAnswer tells the breaker of an answer.
func (s *Source) noteAnswer() {
	if was := s.breaker.answered(); was != nil {
		s.cfg.Log.Info("the source answers again", "source", s.String(), "after", time.Since(was.since).Round(time.Millisecond))
	}
}

// noteFailure tells the breaker of a failure. The source that dies of it is asked from time to time
// whether it lives again.
func (s *Source) noteFailure(probe string, began time.Time, why error) {
	d := s.breaker.failed(probe, began, why)
	if d == nil {
		return
	}
	s.cfg.Log.Warn("the source does not answer", "source", s.String(), "since", d.since, "error", d.why)
	s.running.Go(func() { s.revive(d) }) // What has failed is a call or a probe, and runs.
}

// revive asks a dead source, one request at a time, until it answers.
func (s *Source) revive(d *dead) {
	wait := max(s.cfg.Probe, min(askedFor(d.why), 4*s.cfg.Probe))
	for {
		// Many mounts lost the source together; they should not find it again together.
		timer := time.NewTimer(wait - rand.N(wait/4+1))
		select {
		case <-timer.C:
		case <-s.life.Done():
			timer.Stop()
			return
		}
		if _, now := s.breaker.state(); now != d {
			return // A request that was under way brought an answer.
		}
		err := s.probe(d.probe)
		if _, now := s.breaker.state(); now != d {
			return
		}
		wait = max(min(2*wait, 4*s.cfg.Probe), min(askedFor(err), 4*s.cfg.Probe))
	}
}

// probe opens an object. Any answer will do, and ask notes it.
func (s *Source) probe(name string) error {
	ctx, end := context.WithCancelCause(s.life)
	defer end(nil)
	r := &request[source.Object]{verb: "probe", name: name, probe: name, limit: s.cfg.FirstByte + s.cfg.transfer(openBytes), size: prefixSize}
	o, _ := ask(ctx, end, s, r, func(ctx context.Context, _ *watch) (source.Object, error) { return s.src.Open(ctx, name) })
	if o.kind == done {
		closeObject(o.result)
	}
	return o.err
}
