package patient_test

import (
	"bytes"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tesserafs/tesserafs/tilecache/source"
	"github.com/tesserafs/tesserafs/tilecache/source/memsource"
	"github.com/tesserafs/tesserafs/tilecache/source/patient"
)

// usual is how the source of these tests answers when it is well.
const usual = 20 * time.Millisecond

// warm shows a source's pace, and saves some second requests.
func warm(t *testing.T, o source.Object) {
	t.Helper()
	for range 100 {
		if _, err := o.ReadAt(t.Context(), make([]byte, 1000), 0); err != nil {
			t.Fatal(err)
		}
	}
}

// Catches slow requests that nobody overtakes, bytes of the loser in what the winner brought, and a
// loser that writes on after the read has returned.
func TestHedge(t *testing.T) {
	for _, test := range []struct {
		name        string
		first, next fault
		took        time.Duration
		won         int64
	}{
		{"a stall", fault{hang: true}, fault{wait: usual}, 200*time.Millisecond + usual, 1},
		{"the first is slow to end", fault{hang: true, deaf: time.Second}, fault{wait: usual}, time.Second + 200*time.Millisecond + usual, 1},
		{"half-way", fault{slow: time.Minute}, fault{wait: usual}, 200*time.Millisecond + usual, 1},
		{"the first comes after all", fault{wait: 300 * time.Millisecond}, fault{wait: time.Second}, 300 * time.Millisecond, 0},
		{"the first fails while the second is under way", fault{wait: 300 * time.Millisecond, err: &source.Transient{Err: errRefused}}, fault{wait: 200 * time.Millisecond}, 400 * time.Millisecond, 1},
		{"the second fails", fault{wait: time.Second}, fault{err: &source.Transient{Err: errRefused}}, time.Second, 0},
		{"not slow enough", fault{wait: 190 * time.Millisecond}, fault{}, 190 * time.Millisecond, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				faults := []fault{}
				src, objects := newFaulty(func(_, _ string, _ int) fault {
					if len(faults) == 0 {
						return fault{wait: usual}
					}
					f := faults[0]
					faults = faults[1:]
					return f
				})
				s := ask(t, src, patient.Config{})
				o := open(t, s, "b")
				warm(t, o)
				pace := s.Pace()
				src.lock(func() { faults = []fault{test.first, test.next} })
				p := make([]byte, 50_000)
				began := time.Now()
				if _, err := o.ReadAt(t.Context(), p, 77); err != nil || !bytes.Equal(p, objects["b"][77:50_077]) {
					t.Errorf("%v, or other bytes", err)
				}
				if took := time.Since(began); took != test.took {
					t.Errorf("took %v, want %v", took, test.took)
				}
				clear(p)
				time.Sleep(time.Hour)
				if !bytes.Equal(p, make([]byte, len(p))) {
					t.Error("written to after the read")
				}
				st := s.Stats()
				if st.HedgesWon != test.won || st.Retries != 0 || st.InFlight != 0 {
					t.Errorf("%+v", st)
				}
				if st.Hedges > 0 && s.Pace() != pace {
					t.Errorf("the pace was %v and is %v", pace, s.Pace())
				}
			})
		})
	}
}

// Catches a pace that is spoilt by requests which two went for.
func TestHedgesDoNotTellThePace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wait := usual
		src, _ := newFaulty(func(_, _ string, _ int) fault { return fault{wait: wait} })
		s := ask(t, src, patient.Config{})
		o := open(t, s, "b")
		warm(t, o)
		pace := s.Pace()
		src.lock(func() { wait = 300 * time.Millisecond })
		for range 5 {
			if _, err := o.ReadAt(t.Context(), make([]byte, 50_000), 0); err != nil {
				t.Fatal(err)
			}
		}
		src.lock(func() { wait = usual })
		warm(t, o)
		if st := s.Stats(); st.Hedges != 5 || s.Pace() != pace {
			t.Errorf("%d hedges; the pace was %v and is %v", st.Hedges, pace, s.Pace())
		}
	})
}

// Catches a read that is copied, or is not read where it belongs.
func TestNoCopy(t *testing.T) {
	src, _ := newFaulty(nil)
	o := open(t, ask(t, src, patient.Config{}), "b")
	p := make([]byte, 100)
	for range 10 {
		if _, err := o.ReadAt(t.Context(), p, 0); err != nil || src.firstP.Load() != &p[0] {
			t.Fatalf("%v, or not read into the caller's buffer", err)
		}
	}
}

// Catches objects of the slower of two opens that stay open.
func TestHedgedOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := time.Duration(0)
		src, _ := newFaulty(func(_, _ string, _ int) fault {
			f := fault{wait: usual + slow, deaf: 50 * time.Millisecond}
			slow = 0
			return f
		})
		s := ask(t, src, patient.Config{})
		o := open(t, s, "b")
		warm(t, o)
		for _, more := range []time.Duration{190 * time.Millisecond, 250 * time.Millisecond, 5 * time.Second} {
			src.lock(func() { slow = more })
			o, err := s.Open(t.Context(), "a")
			if err != nil {
				t.Fatal(err)
			}
			if err := o.Close(); err != nil {
				t.Error(err)
			}
		}
		if st := s.Stats(); st.Hedges != 3 || st.HedgesWon < 1 {
			t.Errorf("%+v", st)
		}
		time.Sleep(time.Hour)
		if src.opened.Load() != src.closed.Load()+1 {
			t.Errorf("%d opened, %d closed", src.opened.Load(), src.closed.Load())
		}
	})
}

// Catches a source that is often slow and is asked for everything twice.
func TestHedgesAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, _ := newFaulty(func(_, _ string, n int) fault {
			if n > 150 && n%5 < 2 {
				return fault{wait: time.Second}
			}
			return fault{wait: usual}
		})
		s := ask(t, src, patient.Config{})
		o := open(t, s, "b")
		var readers sync.WaitGroup
		for range 32 {
			readers.Go(func() { warm(t, o) })
		}
		readers.Wait()
		if st := s.Stats(); st.Hedges > 1+3201*5/100 || st.Hedges < 100 {
			t.Errorf("%d of %d requests were sent twice", st.Hedges, st.Requests)
		}
	})
}

// Catches an estimate that stays with the time when the source was quick, and hedges all since.
func TestHedgesOfASlowSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wait := usual
		src, _ := newFaulty(func(_, _ string, _ int) fault { return fault{wait: wait} })
		s := ask(t, src, patient.Config{})
		o := open(t, s, "b")
		warm(t, o)
		src.lock(func() { wait = 900 * time.Millisecond })
		var readers sync.WaitGroup
		for range 32 {
			readers.Go(func() { warm(t, o) })
		}
		readers.Wait()
		st := s.Stats()
		if st.Hedges < 1 || st.Hedges > 10 {
			t.Errorf("%d of %d requests were sent twice", st.Hedges, st.Requests)
		}
		if got := s.Pace().Latency; got < 800*time.Millisecond {
			t.Errorf("latency %v, and it is %v", got, wait)
		}
	})
}

// Catches second requests for which there is no place or no memory.
func TestHedgesAreBounded(t *testing.T) {
	for _, test := range []struct {
		name  string
		cfg   patient.Config
		bytes int
	}{
		{"no place", patient.Config{InFlight: 1}, 1000},
		{"none wanted", patient.Config{Hedged: -1}, 1000},
		{"no memory", patient.Config{}, 17 << 20},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				wait := usual
				src, _ := newFaulty(func(_, _ string, _ int) fault { return fault{wait: wait} })
				s := ask(t, src, test.cfg)
				o := open(t, s, "b")
				warm(t, o)
				src.Source.(*memsource.Source).Put("large", make([]byte, test.bytes))
				large := open(t, s, "large")
				src.lock(func() { wait = 10 * time.Second })
				if _, err := large.ReadAt(t.Context(), make([]byte, test.bytes), 0); err != nil {
					t.Error(err)
				}
				if st := s.Stats(); st.Hedges != 0 {
					t.Errorf("%+v", st)
				}
			})
		})
	}
}

// BenchmarkReadAt is what patience costs a read that goes well.
func BenchmarkReadAt(b *testing.B) {
	src, _ := newFaulty(nil)
	s := patient.New(src.Source, patient.Config{})
	defer s.Close()
	o, err := s.Open(b.Context(), "a")
	if err != nil {
		b.Fatal(err)
	}
	defer o.Close()
	p := make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := o.ReadAt(b.Context(), p, 0); err != nil {
			b.Fatal(err)
		}
	}
}
