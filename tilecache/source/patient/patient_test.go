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
	"github.com/tesserafs/tesserafs/tilecache/source/memsource"
	"github.com/tesserafs/tesserafs/tilecache/source/patient"
	"github.com/tesserafs/tesserafs/tilecache/source/sourcetest"
)

// mutator changes objects the one way a source in memory knows.
type mutator struct{ *memsource.Source }

func (m mutator) Replace(name string, data []byte) { m.Put(name, data) }
func (m mutator) Rewrite(name string, data []byte) { m.Put(name, data) }
func (m mutator) Delete(name string)               { m.Remove(name) }

// Catches a patience that changes what a source says.
func TestSuite(t *testing.T) {
	sourcetest.Test(t, func(t *testing.T, objects map[string][]byte) (source.Source, sourcetest.Mutator) {
		m := memsource.New(objects)
		return ask(t, m, patient.Config{}), mutator{m}
	})
}

// calls are the three ways to ask, each made anew for a source.
func calls(t *testing.T, s source.Source) map[string]func(context.Context) error {
	o := open(t, s, "a")
	return map[string]func(context.Context) error{
		"open": func(ctx context.Context) error {
			o, err := s.Open(ctx, "a")
			if err == nil {
				o.Close()
			}
			return err
		},
		"read": func(ctx context.Context) error { _, err := o.ReadAt(ctx, make([]byte, 1000), 5); return err },
		"list": func(ctx context.Context) error { _, err := s.List(ctx, ".", true); return err },
	}
}

// Catches failures that are not retried, retries without a pause or with a pause that the server did
// not want, and bytes of a failed try that stay.
func TestRetries(t *testing.T) {
	for _, test := range []struct {
		name          string
		err           error
		atLeast, most time.Duration // for three failures
	}{
		{"a broken connection", &source.Transient{Err: errRefused}, 0, 700 * time.Millisecond},
		{"a busy server", &source.Transient{Err: errRefused, After: 7 * time.Second}, 21 * time.Second, 22 * time.Second},
		{"a wrapped one", fmt.Errorf("read: %w", &source.Transient{Err: errRefused}), 0, 700 * time.Millisecond},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				failing := 0
				src, objects := newFaulty(func(_, _ string, _ int) fault {
					if failing == 0 {
						return fault{}
					}
					failing--
					return fault{err: test.err}
				})
				s := ask(t, src, patient.Config{DeadAfter: time.Hour})
				o := open(t, s, "b")
				for name, call := range calls(t, s) {
					src.lock(func() { failing = 3 })
					began := time.Now()
					if err := call(t.Context()); err != nil {
						t.Errorf("%s: %v", name, err)
					}
					if took := time.Since(began); took < test.atLeast || took > test.most {
						t.Errorf("%s took %v, want %v to %v", name, took, test.atLeast, test.most)
					}
				}
				src.lock(func() { failing = 3 })
				p := make([]byte, 70_000)
				if _, err := o.ReadAt(t.Context(), p, 30_000); err != nil || !bytes.Equal(p, objects["b"][30_000:]) {
					t.Errorf("a read after three failures: %v, or other bytes", err)
				}
				st := s.Stats()
				if st.Retries != 12 || st.Failures["transient"] != 12 || st.Requests != 18 || st.Unavailable != 0 {
					t.Errorf("%+v", st)
				}
			})
		})
	}
}

// Catches a read that never ends well, as each of its connections ends before all of its bytes came: over such
// a line a long request must go on where the one before it ended.
func TestRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, objects := newFaulty(func(op, _ string, _ int) fault {
			if op == "read" {
				return fault{ends: 10_000}
			}
			return fault{}
		})
		s := ask(t, src, patient.Config{})
		o := open(t, s, "b")
		p := make([]byte, 95_000)
		if n, err := o.ReadAt(t.Context(), p, 5); n != len(p) || err != nil || !bytes.Equal(p, objects["b"][5:95_005]) {
			t.Errorf("%d, %v, or other bytes", n, err)
		}
		if st := s.Stats(); st.Retries != 9 {
			t.Errorf("%d retries", st.Retries)
		}
	})
}

// Catches answers that are taken for trouble: asked for again, or held against the source.
func TestAnswers(t *testing.T) {
	for kind, answer := range map[string]error{
		"missing": fs.ErrNotExist,
		"denied":  fs.ErrPermission,
		"changed": source.ErrChanged,
		"other":   errors.New("416"),
	} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var err error
				src, _ := newFaulty(func(_, _ string, _ int) fault { return fault{err: err} })
				s := ask(t, src, patient.Config{})
				calls := calls(t, s)
				src.lock(func() { err = fmt.Errorf("a: %w", answer) })
				for range 10 {
					for name, call := range calls {
						before := src.requests()
						if got := call(t.Context()); !errors.Is(got, answer) || errors.Is(got, source.ErrUnavailable) {
							t.Errorf("%s: %v", name, got)
						}
						if n := src.requests() - before; n != 1 {
							t.Errorf("%s: %d requests", name, n)
						}
					}
					time.Sleep(time.Minute)
				}
				if st := s.Stats(); st.Breaker.State != "alive" || st.Failures[kind] != 30 {
					t.Errorf("%+v", st)
				}
			})
		})
	}
}

// Catches calls that outlast their patience or end before it, and errors that do not say what was
// tried; and a server that asks for more time than there is and is waited for.
func TestPatience(t *testing.T) {
	for _, test := range []struct {
		name          string
		fault         fault
		patience      time.Duration
		atLeast, most time.Duration
		cause         error
		says          string
	}{
		{"refused", fault{err: &source.Transient{Err: errRefused}}, 0, 60 * time.Second, 67 * time.Second, errRefused, " attempts in 1m"},
		{"hangs", fault{hang: true}, 0, 60 * time.Second, 67 * time.Second, nil, "no byte came within 15s"},
		{"hangs longer than the patience", fault{hang: true}, 5 * time.Second, 5 * time.Second, 12 * time.Second, nil, "no answer to 1 attempt"},
		{"timeouts of net/http", fault{err: &source.Transient{Err: context.DeadlineExceeded}}, 0, 60 * time.Second, 67 * time.Second, nil, "deadline"},
		{"asks for too long", fault{err: &source.Transient{Err: errRefused, After: 100 * time.Second}}, 0, 0, 0, errRefused, "left alone for 1m40s"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var f fault
				src, _ := newFaulty(func(_, _ string, _ int) fault { return f })
				s := ask(t, src, patient.Config{Patience: test.patience, DeadAfter: time.Hour})
				o := open(t, s, "b")
				src.lock(func() { f = test.fault })
				began := time.Now()
				_, err := o.ReadAt(t.Context(), make([]byte, 100_000), 0)
				if took := time.Since(began); took < test.atLeast || took > test.most {
					t.Errorf("took %v, want %v to %v", took, test.atLeast, test.most)
				}
				if !errors.Is(err, source.ErrUnavailable) || test.cause != nil && !errors.Is(err, test.cause) {
					t.Errorf("error: %v", err)
				}
				if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("looks like the end of the caller's context: %v", err)
				}
				for _, says := range []string{"read b: ", test.says} {
					if !strings.Contains(fmt.Sprint(err), says) {
						t.Errorf("%q does not say %q", err, says)
					}
				}
				if st := s.Stats(); st.Unavailable != 1 || st.InFlight != 0 {
					t.Errorf("%+v", st)
				}
			})
		})
	}
}

// Catches large reads that are cut off though bytes come, and stalls that are not noticed.
func TestTimeouts(t *testing.T) {
	for _, test := range []struct {
		name  string
		hide  bool  // that the object shows its progress
		first fault // of the first read; the others go well
		took  time.Duration
		fails bool // the first read
	}{
		{"a slow megabyte that shows its progress", false, fault{slow: 9 * time.Second}, 36 * time.Second, false},
		{"a slow megabyte", true, fault{slow: 19 * time.Second}, 76 * time.Second, false},
		{"a stall", false, fault{slow: 11 * time.Second}, 21 * time.Second, true},
		{"no first byte", false, fault{hang: true}, 15 * time.Second, true},
		{"no byte at all, unseen", true, fault{hang: true}, 79 * time.Second, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				first := true
				src, objects := newFaulty(func(op, _ string, _ int) fault {
					if op == "open" || !first {
						return fault{}
					}
					first = false
					return test.first
				})
				asked := source.Source(src)
				if test.hide {
					asked = plain{src}
				}
				s := ask(t, asked, patient.Config{Hedged: -1})
				o := open(t, s, "a")
				p := make([]byte, 1<<20)
				began := time.Now()
				if _, err := o.ReadAt(t.Context(), p, 0); err != nil || !bytes.Equal(p, objects["a"]) {
					t.Fatalf("%v, or other bytes", err)
				}
				if took := time.Since(began); took < test.took || took > test.took+150*time.Millisecond {
					t.Errorf("took %v, want %v", took, test.took)
				}
				if got := s.Stats().Failures["timeout"]; (got == 1) != test.fails {
					t.Errorf("%d timeouts", got)
				}
			})
		})
	}
}

// Catches waits that outlast the caller's context, and its end told as something else or held against
// the source.
func TestContext(t *testing.T) {
	for _, test := range []struct {
		name  string
		fault fault
	}{
		{"in a request", fault{hang: true}},
		{"between two", fault{err: &source.Transient{Err: errRefused, After: 30 * time.Second}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var f fault
				src, _ := newFaulty(func(_, _ string, _ int) fault { return f })
				s := ask(t, src, patient.Config{InFlight: 1})
				calls := calls(t, s)
				src.lock(func() { f = test.fault })
				for name, call := range calls {
					ctx, cancel := context.WithCancel(t.Context())
					time.AfterFunc(time.Second, cancel)
					endsIn(t, time.Second, context.Canceled, name, func() error { return call(ctx) })
					ctx, cancel = context.WithTimeout(t.Context(), time.Second)
					endsIn(t, time.Second, context.DeadlineExceeded, name, func() error { return call(ctx) })
					cancel()
				}
			})
		})
	}
	t.Run("in the queue", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var f fault
			src, _ := newFaulty(func(_, _ string, _ int) fault { return f })
			s := ask(t, src, patient.Config{InFlight: 1})
			calls := calls(t, s)
			src.lock(func() { f = fault{wait: 10 * time.Second} })
			var first sync.WaitGroup
			first.Go(func() { _, _ = s.List(t.Context(), ".", true) })
			synctest.Wait()
			before := src.requests()
			for name, call := range calls {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				endsIn(t, time.Second, context.DeadlineExceeded, name, func() error { return call(ctx) })
				cancel()
			}
			if st := s.Stats(); src.requests() != before || st.InFlight != 1 || st.Waiting != 0 {
				t.Errorf("requests were sent for those that left: %+v", st)
			}
			first.Wait()
		})
	})
}

// endsIn checks how and when a call ends.
func endsIn(t *testing.T, in time.Duration, want error, name string, call func() error) {
	t.Helper()
	began := time.Now()
	err := call()
	if !errors.Is(err, want) || want != source.ErrUnavailable && errors.Is(err, source.ErrUnavailable) {
		t.Errorf("%s: %v, want %v", name, err, want)
	}
	if took := time.Since(began); took != in {
		t.Errorf("%s: took %v, want %v", name, took, in)
	}
}

// Catches more requests under way than allowed, and calls that overtake those that wait; and a wait
// that does not count as patience.
func TestInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, _ := newFaulty(func(_, _ string, _ int) fault { return fault{wait: time.Second, err: fs.ErrNotExist} })
		s := ask(t, src, patient.Config{InFlight: 4, Patience: 19500 * time.Millisecond, Hedged: -1})
		var readers sync.WaitGroup
		var want []string
		unavailable := 0
		var mu sync.Mutex
		for i := range 100 {
			name := fmt.Sprintf("%03d", i)
			want = append(want, name)
			readers.Go(func() {
				if _, err := s.Open(t.Context(), name); errors.Is(err, source.ErrUnavailable) {
					mu.Lock()
					unavailable++
					mu.Unlock()
				} else if !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%s: %v", name, err)
				}
			})
			synctest.Wait()
		}
		if st := s.Stats(); st.InFlight != 4 || st.Waiting != 96 {
			t.Errorf("in flight %d, waiting %d", st.InFlight, st.Waiting)
		}
		readers.Wait()
		order, most := src.asked()
		if most != 4 {
			t.Errorf("%d requests at once", most)
		}
		// In 21.5 s, 2 of them for the bytes, four can send 88 each after the other, the last of them in
		// vain; some more get the places of those at the very end.
		if sent := len(order); sent < 88 || unavailable != 16 {
			t.Errorf("%d sent, %d without an answer", sent, unavailable)
		}
		for i, name := range order[:80] {
			// Those that begin at one instant come in any order.
			if name[:2] > want[i+4][:2] {
				t.Errorf("%s was sent as number %d", name, i)
			}
		}
	})
}

// Catches an object that closes under its reads, or never; and calls that go on after Close.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f fault
		src, objects := newFaulty(func(_, _ string, _ int) fault { return f })
		s := ask(t, src, patient.Config{})
		o, err := s.Open(t.Context(), "b")
		if err != nil {
			t.Fatal(err)
		}
		src.lock(func() { f = fault{wait: 100 * time.Millisecond} })
		var readers sync.WaitGroup
		for i := range 8 {
			readers.Go(func() {
				p := make([]byte, 1000)
				if _, err := o.ReadAt(t.Context(), p, int64(i)); err != nil || !bytes.Equal(p, objects["b"][i:i+1000]) {
					t.Errorf("a read while the object is closed: %v, or other bytes", err)
				}
			})
		}
		synctest.Wait()
		if err := o.Close(); err != nil {
			t.Error(err)
		}
		if src.closed.Load() != 0 {
			t.Error("closed under its reads")
		}
		if _, err := o.ReadAt(t.Context(), make([]byte, 1), 0); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("a read of a closed object: %v", err)
		}
		if err := o.Close(); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("the second Close: %v", err)
		}
		readers.Wait()
		if src.closed.Load() != 1 {
			t.Errorf("closed %d times", src.closed.Load())
		}

		src.lock(func() { f = fault{hang: true} })
		for _, name := range []string{"a", "b"} {
			readers.Go(func() {
				if _, err := s.Open(t.Context(), name); !errors.Is(err, fs.ErrClosed) {
					t.Errorf("a call when the source is closed: %v", err)
				}
			})
		}
		synctest.Wait()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if st := s.Stats(); st.InFlight != 0 {
			t.Errorf("%d requests go on", st.InFlight)
		}
		readers.Wait()
		if _, err := s.Open(t.Context(), "a"); !errors.Is(err, fs.ErrClosed) || !strings.Contains(err.Error(), "open a") {
			t.Errorf("a call after Close: %v", err)
		}
	})
}

// Catches an answer that is thrown away, and an object that stays open with it, as the time ends just
// when it comes.
func TestLateAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, _ := newFaulty(func(_, _ string, _ int) fault { return fault{blind: 5 * time.Second} })
		s := ask(t, src, patient.Config{Patience: time.Second})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for _, ctx := range []context.Context{ctx, t.Context()} {
			o, err := s.Open(ctx, "a")
			if err != nil {
				t.Error(err)
				continue
			}
			if err := o.Close(); err != nil {
				t.Error(err)
			}
		}
		if src.opened.Load() != src.closed.Load() {
			t.Errorf("%d opened, %d closed", src.opened.Load(), src.closed.Load())
		}
	})
}

// short brings fewer bytes than were asked for, and says nothing.
type short struct{ source.Source }

func (s short) Open(ctx context.Context, name string) (source.Object, error) {
	o, err := s.Source.Open(ctx, name)
	return shortObject{o}, err
}

type shortObject struct{ source.Object }

func (o shortObject) Prefix() []byte { return []byte("prefix") }

func (o shortObject) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	return o.Object.ReadAt(ctx, p[:len(p)-1], off)
}

func (o shortObject) Stream(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	return o.Object.(source.Streamer).Stream(ctx, off, n-1)
}

// Catches what takes no request counted as one, as a sign of life, or as the source's pace; and a
// prefix that cannot be read while the source is dead.
func TestUnasked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := false
		src, objects := newFaulty(func(_, _ string, _ int) fault {
			if down {
				return fault{err: &source.Transient{Err: errRefused}}
			}
			return fault{wait: 50 * time.Millisecond}
		})
		s := ask(t, withPrefix{src}, patient.Config{})
		o := open(t, s, "b")
		pace := s.Pace()
		src.lock(func() { down = true })
		var reader sync.WaitGroup
		reader.Go(func() {
			if _, err := o.ReadAt(t.Context(), make([]byte, 10), 50_000); !errors.Is(err, source.ErrUnavailable) {
				t.Errorf("a read of a dead source: %v", err)
			}
		})
		for range 70 {
			p := make([]byte, prefixBytes)
			if _, err := o.ReadAt(t.Context(), p, 0); err != nil || !bytes.Equal(p, objects["b"][:prefixBytes]) {
				t.Errorf("a read of the prefix: %v, or other bytes", err)
			}
			if _, err := o.ReadAt(t.Context(), p, 100_000); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("a read beyond the end: %v", err)
			}
			if _, err := o.ReadAt(t.Context(), p, -1); !errors.Is(err, fs.ErrInvalid) {
				t.Errorf("a read at -1: %v", err)
			}
			if _, err := s.Open(t.Context(), "../b"); !errors.Is(err, fs.ErrInvalid) && !errors.Is(err, source.ErrUnavailable) {
				t.Errorf("an open of no name: %v", err)
			}
			time.Sleep(time.Second)
		}
		reader.Wait()
		if st := s.Stats(); st.Breaker.State != "dead" || s.Pace() != pace || pace == (source.Pace{}) {
			t.Errorf("%+v, %+v", st, s.Pace())
		}
	})
}

const prefixBytes = 4096

// withPrefix is as sources over a network are: an object has its first bytes, and knows by itself what
// is no name.
type withPrefix struct{ *faulty }

func (s withPrefix) Open(ctx context.Context, name string) (source.Object, error) {
	if !fs.ValidPath(name) {
		return s.Source.Open(ctx, name)
	}
	o, err := s.faulty.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	p := make([]byte, prefixBytes)
	_, err = o.(*object).Object.ReadAt(ctx, p, 0)
	return prefixedObject{o, p}, err
}

type prefixedObject struct {
	source.Object
	prefix []byte
}

func (o prefixedObject) Prefix() []byte { return o.prefix }

func (o prefixedObject) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	asked := o.Object.(*object)
	if off < 0 || off+int64(len(p)) <= prefixBytes || off+int64(len(p)) > o.Info().Size {
		return asked.Object.ReadAt(ctx, p, off)
	}
	return asked.ReadAt(ctx, p, off)
}

// Catches a short read or stream taken for a whole one, prefixes that get lost or appear from nowhere,
// and a panic that ends the process.
func TestOddSources(t *testing.T) {
	src, _ := newFaulty(func(op, _ string, _ int) fault {
		if op == "list" {
			return fault{panic: "boom"}
		}
		return fault{}
	})
	s := ask(t, short{src}, patient.Config{})
	o := open(t, s, "b")
	if _, err := o.ReadAt(t.Context(), make([]byte, 10), 0); !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), "read b") {
		t.Errorf("a short read: %v", err)
	}
	r := streamed(t, o, 10, 1000)
	if got, err := io.ReadAll(r); len(got) != 999 || !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), "read b: 999 bytes came for 1000") {
		t.Errorf("a short stream: %d bytes, %v", len(got), err)
	}
	if p, ok := o.(source.Prefixed); !ok || string(p.Prefix()) != "prefix" {
		t.Error("the prefix is lost")
	}
	if _, ok := open(t, ask(t, src, patient.Config{}), "b").(source.Prefixed); ok {
		t.Error("a prefix from nowhere")
	}
	if _, err := s.List(t.Context(), ".", false); err == nil || !strings.Contains(err.Error(), "list .: panic: boom") {
		t.Errorf("a panic: %v", err)
	}
	if st := s.Stats(); st.InFlight != 0 || st.Bytes != int64(len("prefix"))+999 {
		t.Errorf("%+v", st)
	}
}
