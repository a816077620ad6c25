package patient_test

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tesserafs/tesserafs/tilecache/source"
	"github.com/tesserafs/tesserafs/tilecache/source/memsource"
	"github.com/tesserafs/tesserafs/tilecache/source/patient"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errRefused = errors.New("connection refused")

// fault is what becomes of one request.
type fault struct {
	wait  time.Duration // before anything comes
	hang  bool          // nothing comes until the context ends
	err   error         // instead of an answer
	deaf  time.Duration // how long the end of the context goes unnoticed
	slow  time.Duration // between the quarters of what is read
	ends  int           // the connection ends after so many bytes; 0: it does not
	mute  bool          // nothing comes after them, rather than the connection's end
	trips bool          // there is a panic after them, and another when the stream is closed
	blind time.Duration // before anything comes, whatever the context says
	panic any
}

// faulty is a source whose requests go wrong as a test says.
type faulty struct {
	source.Source

	mu sync.Mutex // guards what follows, and what fault reads
	// fault is called for each request; n counts them from 1. Nil: nothing goes wrong.
	fault    func(op, name string, n int) fault
	n        int
	inFlight int
	most     int // requests under way at once
	order    []string

	opened, closed atomic.Int64
	streams        atomic.Int64         // that are open
	firstP         atomic.Pointer[byte] // where the last read went
}

// newFaulty is objects "a" (1 MiB) and "b" (100 kB) of noise.
func newFaulty(fault func(op, name string, n int) fault) (*faulty, map[string][]byte) {
	objects := map[string][]byte{"a": noise(1 << 20), "b": noise(100_000)}
	return &faulty{Source: memsource.New(objects), fault: fault}, objects
}

func noise(n int) []byte {
	p := make([]byte, n)
	rng := rand.NewChaCha8([32]byte{byte(n)})
	_, _ = rng.Read(p)
	return p
}

// lock is for changes to what fault reads.
func (s *faulty) lock(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func (s *faulty) requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n
}

// asked is what was asked for, in order, and the most that was at once.
func (s *faulty) asked() (names []string, most int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.order), s.most
}

// begin is the start of a request, and end what its caller defers.
func (s *faulty) begin(ctx context.Context, op, name string) (f fault, end func(), err error) {
	s.mu.Lock()
	s.n++
	s.inFlight++
	s.most = max(s.most, s.inFlight)
	s.order = append(s.order, name)
	if s.fault != nil {
		f = s.fault(op, name, s.n)
	}
	s.mu.Unlock()
	end = func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.inFlight--
	}
	if f.panic != nil {
		defer end()
		panic(f.panic)
	}
	if f.blind > 0 {
		time.Sleep(f.blind)
		return f, end, nil
	}
	if f.hang {
		<-ctx.Done()
		time.Sleep(f.deaf)
		return f, end, ctx.Err()
	}
	if err := pause(ctx, f.wait, f.deaf); err != nil {
		return f, end, err
	}
	return f, end, f.err
}

// pause waits, or until the context ends and it is noticed.
func pause(ctx context.Context, wait, deaf time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		time.Sleep(deaf)
	}
	return ctx.Err()
}

func (s *faulty) Open(ctx context.Context, name string) (source.Object, error) {
	f, end, err := s.begin(ctx, "open", name)
	defer end()
	if err != nil {
		return nil, err
	}
	if f.blind > 0 {
		ctx = context.WithoutCancel(ctx)
	}
	o, err := s.Source.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	s.opened.Add(1)
	return &object{Object: o, source: s, name: name}, nil
}

func (s *faulty) List(ctx context.Context, name string, withInfo bool) ([]source.Entry, error) {
	_, end, err := s.begin(ctx, "list", name)
	defer end()
	if err != nil {
		return nil, err
	}
	return s.Source.List(ctx, name, withInfo)
}

type object struct {
	source.Object
	source *faulty
	name   string
}

func (o *object) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	return o.ReadAtProgress(ctx, p, off, func(int) {})
}

// ReadAtProgress writes rubbish where a request fails half-way, as sources may.
func (o *object) ReadAtProgress(ctx context.Context, p []byte, off int64, came func(int)) (int, error) {
	o.source.firstP.Store(&p[0])
	f, end, err := o.source.begin(ctx, "read", o.name)
	defer end()
	for i := range len(p) / 2 {
		p[i] ^= 0xA5
	}
	if err != nil {
		return 0, err
	}
	if 0 < f.ends && f.ends < len(p) {
		n, err := o.Object.ReadAt(ctx, p[:f.ends], off)
		if err == nil {
			err = &source.Transient{Err: errRefused}
		}
		came(n)
		p[n] ^= 0xA5
		return n, err
	}
	if f.slow > 0 {
		for range 4 {
			if err := pause(ctx, f.slow, f.deaf); err != nil {
				p[len(p)-1]++
				return 0, err
			}
			came(len(p) / 4)
		}
	}
	return o.Object.ReadAt(ctx, p, off)
}

func (o *object) Stream(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	f, end, err := o.source.begin(ctx, "stream", o.name)
	if err == nil {
		var r io.ReadCloser
		if f.blind > 0 {
			ctx = context.WithoutCancel(ctx)
		}
		if r, err = o.Object.(source.Streamer).Stream(ctx, off, n); err == nil {
			o.source.streams.Add(1)
			return &stream{ReadCloser: r, ctx: ctx, source: o.source, fault: f, end: end}, nil
		}
	}
	end()
	return nil, err
}

// stream is an answer that goes wrong half-way.
type stream struct {
	io.ReadCloser
	ctx    context.Context
	source *faulty
	fault  fault
	end    func()
	got    int
}

// Read writes rubbish where it fails, as sources may.
func (s *stream) Read(p []byte) (int, error) {
	p[len(p)-1] ^= 0xA5
	time.Sleep(s.fault.blind)
	if err := pause(s.ctx, s.fault.slow, s.fault.deaf); err != nil {
		p[0] ^= 0xA5
		return 0, err
	}
	if s.fault.ends > 0 {
		if s.got == s.fault.ends {
			if s.fault.trips {
				panic("it trips")
			}
			if s.fault.mute {
				<-s.ctx.Done()
				return 0, s.ctx.Err()
			}
			return 0, &source.Transient{Err: errRefused}
		}
		p = p[:min(len(p), s.fault.ends-s.got)]
	}
	n, err := s.ReadCloser.Read(p)
	s.got += n
	return n, err
}

func (s *stream) Close() error {
	s.end()
	s.source.streams.Add(-1)
	if s.fault.trips {
		panic("it trips")
	}
	return s.ReadCloser.Close()
}

func (o *object) Close() error {
	o.source.closed.Add(1)
	return o.Object.Close()
}

// plain hides that an object shows its progress.
type plain struct{ source.Source }

func (s plain) Open(ctx context.Context, name string) (source.Object, error) {
	o, err := s.Source.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	return struct{ source.Object }{o}, nil
}

// ask makes a patient source that ends with the test.
func ask(t *testing.T, src source.Source, cfg patient.Config) *patient.Source {
	t.Helper()
	s := patient.New(src, cfg)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func open(t *testing.T, s source.Source, name string) source.Object {
	t.Helper()
	o, err := s.Open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.Close() })
	return o
}
