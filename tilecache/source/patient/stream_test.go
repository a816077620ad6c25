package patient_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tesserafs/tesserafs/tilecache/source"
	"github.com/tesserafs/tesserafs/tilecache/source/patient"
)

// streamed begins a stream that is closed with the test.
func streamed(t *testing.T, o source.Object, off, n int64) io.ReadCloser {
	t.Helper()
	r, err := o.(source.Streamer).Stream(t.Context(), off, n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// next reads a piece of a stream, and checks that it is the one.
func next(t *testing.T, r io.Reader, want []byte) {
	t.Helper()
	p := make([]byte, len(want))
	if _, err := io.ReadFull(r, p); err != nil || !bytes.Equal(p, want) {
		t.Errorf("%d bytes of a stream: %v, or other bytes", len(p), err)
	}
}

// Catches an object that loses what it can do, or gains what it cannot.
func TestKinds(t *testing.T) {
	src, _ := newFaulty(nil)
	for _, test := range []struct {
		name              string
		src               source.Source
		prefixes, streams bool
	}{
		{"streams", src, false, true},
		{"plain", plain{src}, false, false},
		{"prefixed", withPrefix{src}, true, false},
		{"both", twice{src}, true, true},
	} {
		o := open(t, ask(t, test.src, patient.Config{}), "b")
		if _, ok := o.(source.Prefixed); ok != test.prefixes {
			t.Errorf("%s: has a prefix %v", test.name, ok)
		}
		if _, ok := o.(source.Streamer); ok != test.streams {
			t.Errorf("%s: streams %v", test.name, ok)
		}
	}
}

// twice has objects that bring their first bytes along, and stream.
type twice struct{ *faulty }

func (s twice) Open(ctx context.Context, name string) (source.Object, error) {
	o, err := s.faulty.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	return struct {
		source.Streamer
		prefixer
	}{o.(source.Streamer), prefixer{}}, nil
}

type prefixer struct{}

func (prefixer) Prefix() []byte { return make([]byte, 10) }

// Catches a reader who is hurried, or whose pauses are taken for the source's pace; and a stream that is
// not counted, or counted for ever.
func TestStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, objects := newFaulty(func(_, _ string, _ int) fault { return fault{wait: usual} })
		s := ask(t, src, patient.Config{})
		o := open(t, s, "a")
		warm(t, o)
		before, pace := s.Stats(), s.Pace()
		r := streamed(t, o, 5, 1<<20-5)
		for off := 5; off < 1<<20; {
			n := min(100_000, 1<<20-off)
			next(t, r, objects["a"][off:off+n])
			off += n
			time.Sleep(time.Hour)
			if st := s.Stats(); st.Bytes-before.Bytes != int64(off)-5 || st.InFlight != 1 {
				t.Fatalf("after %d bytes: %+v", off-5, st)
			}
		}
		if n, err := r.Read(make([]byte, 10)); n != 0 || err != io.EOF {
			t.Errorf("at the end: %d, %v", n, err)
		}
		st := s.Stats()
		if st.InFlight != 0 || st.Requests != before.Requests+1 || st.Latency.Count != before.Latency.Count || s.Pace() != pace {
			t.Errorf("%+v, the pace was %+v and is %+v", st, pace, s.Pace())
		}
		if src.streams.Load() != 0 {
			t.Error("a stream that was read to its end is not closed")
		}
		// What takes no request.
		src.lock(func() { src.n = 0 })
		if n, err := io.Copy(io.Discard, streamed(t, o, 7, 0)); n != 0 || err != nil {
			t.Errorf("a stream of nothing: %d, %v", n, err)
		}
		if _, err := o.(source.Streamer).Stream(t.Context(), 1, 1<<20); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("a stream beyond the end: %v", err)
		}
		if now := s.Stats(); now.Requests != st.Requests {
			t.Errorf("%d requests were counted for nothing", now.Requests-st.Requests)
		}
	})
}

// Catches a stream that is waited for too long or not long enough, whose failure is not what the caller
// can go on from, is held against the source, or keeps a place; and a buffer that is written to later.
func TestStreamFails(t *testing.T) {
	changed := fmt.Errorf("read b: %w", source.ErrChanged)
	other, its := errors.New("read b: it makes no sense"), errors.New("its own")
	for _, test := range []struct {
		name   string
		warm   bool // the source has shown its pace
		sparse bool // no second requests are left
		fault  fault
		came   int
		took   time.Duration
		is     error // nil: a *source.Transient; its: none that is known
		says   string
		counts string // the key of Stats.Failures
	}{
		{"a busy server", true, false, fault{err: &source.Transient{Err: errRefused, After: 7 * time.Second}}, 0, 0, nil, "connection refused", "transient"},
		{"a timeout of net/http", true, false, fault{err: &source.Transient{Err: context.DeadlineExceeded}}, 0, 0, nil, "deadline", "transient"},
		{"no header", true, false, fault{hang: true}, 0, 200 * time.Millisecond, nil, "read b: no byte came within 200ms", "timeout"},
		{"no header, and none may be asked for again", true, true, fault{hang: true}, 0, 15 * time.Second, nil, "read b: no byte came within 15s", "timeout"},
		{"a slow header", true, true, fault{wait: 14 * time.Second}, 100_000, 14 * time.Second, io.EOF, "", ""},
		{"changed", true, false, fault{err: changed}, 0, 0, source.ErrChanged, "read b", "changed"},
		{"deleted", true, false, fault{err: fmt.Errorf("read b: %w", fs.ErrNotExist)}, 0, 0, fs.ErrNotExist, "read b", "missing"},
		{"nonsense", true, false, fault{err: other}, 0, 0, other, "read b", "other"},
		{"a panic", true, false, fault{panic: "boom"}, 0, 0, its, "read b: panic: boom", "other"},
		{"breaks off", true, false, fault{ends: 30_000}, 30_000, 0, nil, "connection refused", "transient"},
		{"stalls", true, false, fault{ends: 30_000, mute: true}, 30_000, 200 * time.Millisecond, nil, "read b: it stalls: no byte came for 200ms", "timeout"},
		{"stalls, of a source not known yet", false, false, fault{ends: 30_000, mute: true}, 30_000, 10 * time.Second, nil, "it stalls: no byte came for 10s", "timeout"},
		{"stalls, and may not be asked again", true, true, fault{ends: 30_000, mute: true}, 30_000, 10 * time.Second, nil, "it stalls: no byte came for 10s", "timeout"},
		{"slow all the way", true, false, fault{slow: 190 * time.Millisecond}, 100_000, 11 * 190 * time.Millisecond, io.EOF, "", ""},
		{"deaf and slow", true, false, fault{slow: time.Minute, deaf: time.Second}, 0, 1200 * time.Millisecond, nil, "it stalls", "timeout"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				well := fault{}
				src, objects := newFaulty(func(op, _ string, _ int) fault {
					if op == "stream" {
						return test.fault
					}
					return well
				})
				share := 1.0 // of requests that may be sent twice
				if test.sparse {
					share = -1
				}
				s := ask(t, src, patient.Config{InFlight: 1, Hedged: share})
				o := open(t, s, "b")
				rounds := int64(1)
				if test.warm {
					rounds = 20 // for longer than it takes to be dead
					src.lock(func() { well = fault{wait: usual} })
					warm(t, o)
				}
				for round := range rounds {
					began := time.Now()
					got := []byte{}
					r, err := o.(source.Streamer).Stream(t.Context(), 0, 100_000)
					p := bytes.Repeat([]byte{0x3C}, 10_000)
					for err == nil {
						var n int
						n, err = r.Read(p)
						got = append(got, p[:n]...)
					}
					if took := time.Since(began); took != test.took {
						t.Errorf("took %v, want %v", took, test.took)
					}
					copy(p, objects["a"])
					time.Sleep(10 * time.Second)
					if !bytes.Equal(p, objects["a"][:len(p)]) {
						t.Error("written to after a Read")
					}
					if len(got) != test.came || !bytes.Equal(got, objects["b"][:len(got)]) {
						t.Errorf("%d bytes came of %d, or others", len(got), test.came)
					}
					var transient *source.Transient
					if errors.As(err, &transient) != (test.is == nil) || test.is != nil && test.is != its && !errors.Is(err, test.is) ||
						!strings.Contains(err.Error(), test.says) {
						t.Fatalf("%v", err)
					}
					if test.fault.err != nil && test.is == nil && transient.After != test.fault.err.(*source.Transient).After {
						t.Errorf("after %v", transient.After)
					}
					if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, source.ErrUnavailable) {
						t.Errorf("looks like another's error: %v", err)
					}
					if r != nil {
						if n, again := r.Read(p); n != 0 || again != err {
							t.Errorf("again: %d, %v", n, again)
						}
					}
					st := s.Stats()
					if st.Failures[test.counts] != round+1 && test.counts != "" || st.Breaker.Deaths != 0 || st.InFlight != 0 || src.streams.Load() != 0 {
						t.Errorf("%+v", st)
					}
					if round == rounds-1 && len(got) < 100_000 { // Between rounds there is no other answer.
						p := make([]byte, 100_000-len(got))
						if _, err := o.ReadAt(t.Context(), p, int64(len(got))); err != nil || !bytes.Equal(append(got, p...), objects["b"]) {
							t.Errorf("what was missing: %v, or other bytes", err)
						}
					}
				}
			})
		})
	}
}

// Catches a stream that is begun, or goes on, though the source is dead; its reader waiting or not.
func TestStreamOfTheDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f fault
		src, objects := newFaulty(func(op, _ string, _ int) fault {
			if op == "stream" {
				return fault{ends: 50_000, mute: true}
			}
			return f
		})
		s := ask(t, src, patient.Config{Stall: time.Hour})
		o := open(t, s, "b")
		waiting, paused := streamed(t, o, 0, 100_000), streamed(t, o, 0, 100_000)
		next(t, waiting, objects["b"][:50_000])
		next(t, paused, objects["b"][:50_000])
		src.lock(func() { f = fault{err: &source.Transient{Err: errRefused}} })
		var readers sync.WaitGroup
		readers.Go(func() {
			if n, err := waiting.Read(make([]byte, 100)); n != 0 || !errors.Is(err, source.ErrUnavailable) || !errors.Is(err, errRefused) {
				t.Errorf("a read when the source dies: %d, %v", n, err)
			}
		})
		if _, err := s.Open(t.Context(), "a"); !errors.Is(err, source.ErrUnavailable) {
			t.Error(err)
		}
		readers.Wait()
		synctest.Wait()
		if st := s.Stats(); st.InFlight != 0 || src.streams.Load() != 0 {
			t.Errorf("%+v", st)
		}
		endsIn(t, 0, source.ErrUnavailable, "a paused stream", func() error { _, err := paused.Read(make([]byte, 100)); return err })
		before := src.requests()
		endsIn(t, 0, source.ErrUnavailable, "a stream of the dead", func() error {
			_, err := o.(source.Streamer).Stream(t.Context(), 0, 100_000)
			return err
		})
		if src.requests() != before {
			t.Error("the dead source was asked")
		}
		if st := s.Stats(); st.Unavailable != 4 {
			t.Errorf("%d unavailable", st.Unavailable)
		}
	})
}

// Catches a source that is called dead while a stream of it comes.
func TestStreamIsLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, objects := newFaulty(func(_, name string, _ int) fault {
			if name == "a" {
				return fault{err: &source.Transient{Err: errRefused}}
			}
			return fault{}
		})
		s := ask(t, src, patient.Config{})
		r := streamed(t, open(t, s, "b"), 0, 100_000)
		var readers sync.WaitGroup
		readers.Go(func() {
			if _, err := s.Open(t.Context(), "a"); !errors.Is(err, source.ErrUnavailable) || !strings.Contains(err.Error(), "attempts in 1m") {
				t.Errorf("an object that cannot be had: %v", err)
			}
		})
		for i := range 70 {
			next(t, r, objects["b"][i*1000:(i+1)*1000])
			time.Sleep(time.Second)
		}
		readers.Wait()
		if st := s.Stats(); st.Breaker.Deaths != 0 {
			t.Errorf("%+v", st.Breaker)
		}
	})
}

// Catches a stream without a place, one that keeps it when it is over, whoever ended it; and a wait that
// the caller's context or the patience does not end.
func TestStreamPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, objects := newFaulty(nil)
		s := ask(t, src, patient.Config{InFlight: 1, Patience: 30 * time.Second})
		o := open(t, s, "b")
		begin := func(ctx context.Context) (io.ReadCloser, error) { return o.(source.Streamer).Stream(ctx, 0, 100_000) }
		for name, end := range map[string]func(cancel func(), r io.ReadCloser){
			"closed":    func(_ func(), r io.ReadCloser) { r.Close() },
			"cancelled": func(cancel func(), _ io.ReadCloser) { cancel(); synctest.Wait() },
			"read":      func(_ func(), r io.ReadCloser) { io.Copy(io.Discard, r) },
		} {
			first, because := context.WithCancelCause(t.Context())
			cancel := func() { because(fs.ErrClosed) } // which the caller's own error is not
			r, err := begin(first)
			if err != nil {
				t.Fatal(err)
			}
			next(t, r, objects["b"][:1000])
			ctx, stop := context.WithTimeout(t.Context(), time.Second)
			endsIn(t, time.Second, context.DeadlineExceeded, name+", the next", func() error { _, err := begin(ctx); return err })
			stop()
			endsIn(t, 30*time.Second, source.ErrUnavailable, name+", the next", func() error { _, err := begin(t.Context()); return err })
			end(cancel, r)
			endsIn(t, 0, nil, name+", then", func() error {
				r, err := begin(t.Context())
				if err == nil {
					err = r.Close()
				}
				return err
			})
			if st := s.Stats(); st.InFlight != 0 || st.Waiting != 0 || src.streams.Load() != 0 {
				t.Errorf("%s: %+v", name, st)
			}
			if _, err := r.Read(make([]byte, 10)); name == "cancelled" && !errors.Is(err, context.Canceled) || name == "closed" && !errors.Is(err, fs.ErrClosed) || err == nil {
				t.Errorf("%s, and reads: %v", name, err)
			}
			cancel()
			r.Close()
		}
	})
}

// Catches an object that closes under its stream, or never; a Close that does not reach a Read under way;
// and a source whose Close waits for a stream that nobody reads or closes.
func TestStreamClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := fault{}
		src, objects := newFaulty(func(_, _ string, _ int) fault { return f })
		s := ask(t, src, patient.Config{})
		o, err := s.Open(t.Context(), "b")
		if err != nil {
			t.Fatal(err)
		}
		r := streamed(t, o, 0, 100_000)
		if err := o.Close(); err != nil {
			t.Error(err)
		}
		next(t, r, objects["b"][:50_000])
		if src.closed.Load() != 0 {
			t.Error("closed under its stream")
		}
		r.Close()
		r.Close()
		if src.closed.Load() != 1 {
			t.Errorf("closed %d times", src.closed.Load())
		}
		if _, err := o.(source.Streamer).Stream(t.Context(), 0, 10); !errors.Is(err, fs.ErrClosed) || src.closed.Load() != 1 {
			t.Errorf("a stream of a closed object: %v", err)
		}

		src.lock(func() { f = fault{slow: 5 * time.Second} })
		a := open(t, s, "a")
		closed, read, left := streamed(t, a, 0, 1000), streamed(t, a, 0, 1000), streamed(t, a, 0, 1000)
		var readers sync.WaitGroup
		for _, r := range []io.Reader{closed, read} {
			readers.Go(func() {
				endsIn(t, time.Second, fs.ErrClosed, "a read when it is closed", func() error { _, err := r.Read(make([]byte, 10)); return err })
			})
		}
		time.Sleep(time.Second)
		closed.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		readers.Wait()
		if st := s.Stats(); st.InFlight != 0 || src.streams.Load() != 0 {
			t.Errorf("%d streams go on, %+v", src.streams.Load(), st)
		}
		for _, r := range []io.Reader{read, left} {
			if _, err := r.Read(make([]byte, 10)); !errors.Is(err, fs.ErrClosed) || !strings.Contains(err.Error(), "read a") {
				t.Errorf("a stream of a closed source: %v", err)
			}
		}
		if _, err := a.(source.Streamer).Stream(t.Context(), 0, 10); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("a stream of a closed source: %v", err)
		}
	})
}

// Catches bytes that are thrown away, and a stream that is never over, as it ends just when they come.
func TestStreamLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, objects := newFaulty(func(op, _ string, _ int) fault {
			if op == "stream" {
				return fault{blind: 5 * time.Second}
			}
			return fault{}
		})
		s := ask(t, src, patient.Config{})
		o := open(t, s, "b")
		r := streamed(t, o, 0, 100_000)
		time.AfterFunc(time.Second, func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		next(t, r, objects["b"][:1000])
		synctest.Wait()
		if st := s.Stats(); st.InFlight != 0 || src.streams.Load() != 0 {
			t.Errorf("%+v", st)
		}
		if n, err := r.Read(make([]byte, 10)); n != 0 || !errors.Is(err, fs.ErrClosed) {
			t.Errorf("%d, %v", n, err)
		}
	})
}

// Catches a stream that is read on for as long as its bytes come, however few; and one whose reader pauses taken for that.
func TestStreamTrickles(t *testing.T) {
	for _, pauses := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			src, objects := newFaulty(func(op, _ string, _ int) fault {
				if op == "stream" && !pauses {
					return fault{slow: 100 * time.Millisecond}
				}
				return fault{}
			})
			s := ask(t, src, patient.Config{FirstByte: time.Second, Slowest: 100_000})
			r := streamed(t, open(t, s, "b"), 0, 100_000)
			began := time.Now()
			var err error
			p := make([]byte, 1000)
			for off := 0; off < 100_000 && err == nil; off += len(p) {
				if _, err = io.ReadFull(r, p); err == nil && !bytes.Equal(p, objects["b"][off:off+len(p)]) {
					t.Fatal("other bytes")
				}
				if pauses {
					time.Sleep(100 * time.Millisecond)
				}
			}
			var transient *source.Transient
			if took := time.Since(began); !pauses && (!errors.As(err, &transient) || took > 1300*time.Millisecond) || pauses && err != nil {
				t.Errorf("pauses %v: %v after %v", pauses, err, took)
			}
		})
	}
}

// Catches a panic of the source's that ends the process, or keeps a place, the object and Source.Close for good.
func TestStreamPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, objects := newFaulty(func(op, _ string, _ int) fault {
			if op == "stream" {
				return fault{ends: 30_000, trips: true}
			}
			return fault{}
		})
		s := ask(t, src, patient.Config{InFlight: 1})
		o := open(t, s, "b")
		for range 2 {
			r := streamed(t, o, 0, 100_000)
			next(t, r, objects["b"][:30_000])
			if n, err := r.Read(make([]byte, 10)); n != 0 || err == nil || !strings.Contains(err.Error(), "read b: panic: it trips") {
				t.Errorf("%d, %v", n, err)
			}
			r.Close()
		}
		r := streamed(t, o, 0, 100_000) // and one that only Close ends
		r.Close()
		if st := s.Stats(); st.InFlight != 0 || src.streams.Load() != 0 {
			t.Errorf("%+v", st)
		}
		p := make([]byte, 10)
		if _, err := o.ReadAt(t.Context(), p, 0); err != nil || !bytes.Equal(p, objects["b"][:10]) {
			t.Errorf("afterwards: %v, or other bytes", err)
		}
	})
}

// Catches a pace that is not learned from streams, which bring most of the bytes, and one that is their reader's.
func TestStreamShowsPace(t *testing.T) {
	for _, pause := range []time.Duration{0, 50 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			src, objects := newFaulty(func(op, _ string, _ int) fault {
				if op == "stream" {
					return fault{slow: 10 * time.Millisecond}
				}
				return fault{}
			})
			s := ask(t, src, patient.Config{})
			r := streamed(t, open(t, s, "b"), 0, 100_000)
			for off := 0; off < 100_000; off += 10_000 {
				next(t, r, objects["b"][off:off+10_000])
				time.Sleep(pause)
			}
			if pace := s.Pace(); (pace.Bandwidth > 0) != (pause == 0) {
				t.Errorf("with pauses of %v it shows %+v", pause, pace)
			}
			r.Close()
		})
	}
}

// BenchmarkStream is what patience costs a Read of a stream.
func BenchmarkStream(b *testing.B) {
	src, _ := newFaulty(nil)
	s := patient.New(src.Source, patient.Config{})
	defer s.Close()
	o, err := s.Open(b.Context(), "a")
	if err != nil {
		b.Fatal(err)
	}
	defer o.Close()
	if _, err := o.ReadAt(b.Context(), make([]byte, 4096), 0); err != nil { // which shows the pace
		b.Fatal(err)
	}
	p := make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		r, err := o.(source.Streamer).Stream(b.Context(), 0, 1<<20)
		if err != nil {
			b.Fatal(err)
		}
		for err == nil {
			_, err = r.Read(p)
		}
		r.Close()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/257, "ns/read")
}
