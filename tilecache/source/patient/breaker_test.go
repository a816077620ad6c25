package patient_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tesserafs/tesserafs/tilecache/source"
	"github.com/tesserafs/tesserafs/tilecache/source/patient"
)

// Catches a dead source that keeps its readers waiting, or some of them; probes that come together or
// never; and a source that lives again and is still called dead.
func TestDead(t *testing.T) {
	for _, test := range []struct {
		name   string
		fault  fault
		within time.Duration // until the readers know
	}{
		{"refused", fault{err: &source.Transient{Err: errRefused}}, 16 * time.Second},
		{"a black hole", fault{hang: true}, 31 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var f fault
				src, objects := newFaulty(func(_, _ string, _ int) fault { return f })
				var log bytes.Buffer
				s := ask(t, src, patient.Config{Log: slog.New(slog.NewTextHandler(&log, nil))})
				calls := calls(t, s)
				o := open(t, s, "b")
				time.Sleep(time.Hour)
				src.lock(func() { f = test.fault })
				died := time.Now()
				var readers sync.WaitGroup
				var ends []time.Duration
				var mu sync.Mutex
				for range 100 { // More than may be in flight, so that some wait.
					readers.Go(func() {
						_, err := o.ReadAt(t.Context(), make([]byte, 1000), 0)
						if !errors.Is(err, source.ErrUnavailable) {
							t.Errorf("a reader of a dead source: %v", err)
						}
						mu.Lock()
						defer mu.Unlock()
						ends = append(ends, time.Since(died))
					})
				}
				readers.Wait()
				if first, last := ends[0], ends[len(ends)-1]; first != last || last > test.within {
					t.Errorf("readers ended after %v to %v", first, last)
				}
				for range 3 {
					for name, call := range calls {
						endsIn(t, 0, source.ErrUnavailable, name, func() error { return call(t.Context()) })
					}
					time.Sleep(100 * time.Millisecond)
				}
				err := calls["open"](t.Context())
				for _, says := range []string{"open a: ", "since " + died.Format(time.RFC3339)} {
					if !strings.Contains(err.Error(), says) {
						t.Errorf("%q does not say %q", err, says)
					}
				}
				if test.fault.err != nil && !errors.Is(err, errRefused) {
					t.Errorf("%v does not say why", err)
				}
				st := s.Stats()
				if b := st.Breaker; b.State != "dead" || b.Why == "" || b.Since.Sub(died) > time.Second || b.Deaths != 1 {
					t.Errorf("%+v", b)
				}
				if st.InFlight > 1 || st.Waiting != 0 { // A probe may be under way.
					t.Errorf("%+v", st)
				}

				src.lock(func() { src.most, src.n = src.inFlight, 0 })
				time.Sleep(10 * time.Minute)
				if _, most := src.asked(); most != 1 || src.requests() < 18 || src.requests() > 110 {
					t.Errorf("%d probes in 10 min, %d at once", src.requests(), most)
				}
				src.lock(func() { f = fault{} })
				revived := time.Now()
				for s.Stats().Breaker.State != "alive" {
					time.Sleep(100 * time.Millisecond)
					if time.Since(revived) > 35*time.Second {
						t.Fatal("the life of the source goes unnoticed")
					}
				}
				for name, call := range calls {
					if err := call(t.Context()); err != nil {
						t.Errorf("%s of a source that lives again: %v", name, err)
					}
				}
				p := make([]byte, 1000)
				if _, err := o.ReadAt(t.Context(), p, 7); err != nil || !bytes.Equal(p, objects["b"][7:1007]) {
					t.Errorf("%v, or other bytes", err)
				}
				before := src.requests()
				time.Sleep(time.Hour)
				if src.requests() != before {
					t.Error("probes go on")
				}
				for _, says := range []string{"does not answer", "answers again", "source=memory since="} {
					if strings.Count(log.String(), says) != 1 {
						t.Errorf("the log does not say %q once:\n%s", says, &log)
					}
				}
			})
		})
	}
}

// Catches readers that fail for a trouble that passes, however many of them see it at once; and
// failures that lie far apart and are counted together.
func TestShortTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := false
		src, _ := newFaulty(func(_, _ string, _ int) fault {
			if down {
				return fault{err: &source.Transient{Err: errRefused}}
			}
			return fault{wait: time.Millisecond}
		})
		s := ask(t, src, patient.Config{})
		for range 3 {
			src.lock(func() { down = true })
			time.AfterFunc(9*time.Second, func() { src.lock(func() { down = false }) })
			var readers sync.WaitGroup
			for range 50 {
				readers.Go(func() {
					if o, err := s.Open(t.Context(), "a"); err != nil {
						t.Error(err)
					} else {
						o.Close()
					}
				})
			}
			readers.Wait()
		}
		src.lock(func() { down = true })
		for range 20 { // One failure every half a minute, seen by callers that do not wait.
			ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
			_, _ = s.Open(ctx, "a")
			cancel()
			time.Sleep(30 * time.Second)
		}
		if st := s.Stats(); st.Breaker.Deaths != 0 || st.Failures["transient"] < 60 {
			t.Errorf("%+v", st)
		}
	})
}

// Catches a source that is called dead while it answers somebody.
func TestBusyIsNotDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, _ := newFaulty(func(_, name string, _ int) fault {
			if name == "a" {
				return fault{err: &source.Transient{Err: errRefused}}
			}
			return fault{wait: time.Second}
		})
		s := ask(t, src, patient.Config{})
		var readers sync.WaitGroup
		readers.Go(func() {
			_, err := s.Open(t.Context(), "a")
			if !errors.Is(err, source.ErrUnavailable) || !strings.Contains(err.Error(), "attempts in 1m") {
				t.Errorf("an object that cannot be had: %v", err)
			}
		})
		for range 70 {
			open(t, s, "b")
		}
		readers.Wait()
		if st := s.Stats(); st.Breaker.Deaths != 0 {
			t.Errorf("%+v", st.Breaker)
		}
	})
}

// Catches a listing that fails and is not asked about, in a source that cannot open a directory.
func TestDeadListing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := true
		src, _ := newFaulty(func(_, _ string, _ int) fault {
			if down {
				return fault{err: &source.Transient{Err: errRefused}}
			}
			return fault{}
		})
		s := ask(t, src, patient.Config{})
		began := time.Now()
		if _, err := s.List(t.Context(), ".", false); !errors.Is(err, source.ErrUnavailable) || time.Since(began) > 16*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		time.Sleep(time.Minute)
		asked, _ := src.asked()
		if name := asked[len(asked)-1]; name != "manifest.parquet" || s.Stats().Breaker.State != "dead" {
			t.Errorf("probed with %s", name)
		}
		src.lock(func() { down = false })
		time.Sleep(time.Minute)
		if _, err := s.List(t.Context(), ".", false); err != nil {
			t.Error(err)
		}
	})
}

// Catches names in status.json that are not in snake case, and buckets that do not hold those before
// them.
func TestStats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f fault
		src, _ := newFaulty(func(_, _ string, _ int) fault { return f })
		s := ask(t, src, patient.Config{})
		if p := s.Pace(); p != (source.Pace{}) {
			t.Errorf("a pace before anything was seen: %+v", p)
		}
		o := open(t, s, "a")
		for _, wait := range []time.Duration{2 * time.Millisecond, 30 * time.Millisecond, 30 * time.Millisecond, 12 * time.Second} {
			src.lock(func() { f = fault{wait: wait} })
			if _, err := o.ReadAt(t.Context(), make([]byte, 1<<20), 0); err != nil {
				t.Fatal(err)
			}
		}
		st := s.Stats()
		if st.Bytes != 4<<20 || st.Requests != 5+st.Hedges {
			t.Errorf("%+v", st)
		}
		b := st.Latency.Buckets
		if b[0].Count != 1 || b[1].Count != 2 || b[4].Count != 2 || b[5].Count != 4 || b[len(b)-1].Count != 5 || st.Latency.Count != 5 {
			t.Errorf("%+v", st.Latency)
		}
		if want := 12.062; st.Latency.Sum < want-1e-6 || st.Latency.Sum > want+1e-6 {
			t.Errorf("sum %v, want %v", st.Latency.Sum, want)
		}
		if p := s.Pace(); p.Connections != 64 || p.Latency <= 0 || p.Bandwidth <= 0 {
			t.Errorf("%+v", p)
		}
		text, err := json.Marshal(st)
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range []string{"hedges_won", "in_flight", "breaker", "state", "le", "failures", "timeout"} {
			if !strings.Contains(string(text), `"`+key+`":`) {
				t.Errorf("no %q in %s", key, text)
			}
		}
	})
}

// Catches bytes of another place, of a failed try or of none at all, whatever goes wrong.
func TestBytes(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { readUnderFaults(t, seed) })
		})
	}
}

func readUnderFaults(t *testing.T, seed uint64) {
	var mu sync.Mutex // guards right
	rng := rand.New(rand.NewPCG(seed, 1))
	src, objects := newFaulty(func(_, _ string, n int) fault {
		f := fault{wait: upTo(rng, 50*time.Millisecond)}
		if n > 2000 && n < 2500 {
			f.err = &source.Transient{Err: errRefused}
			return f
		}
		switch rng.IntN(12) {
		case 0:
			f.err = &source.Transient{Err: errRefused}
		case 1:
			f.err = &source.Transient{Err: errRefused, After: upTo(rng, 3*time.Second)}
		case 2:
			f.hang = true
		case 3:
			f.slow = upTo(rng, 8*time.Second)
			f.deaf = upTo(rng, time.Second)
		case 4:
			f.wait, f.deaf = upTo(rng, 5*time.Second), upTo(rng, time.Second)
		case 5:
			f.err = errors.New("odd")
		}
		return f
	})
	s := ask(t, src, patient.Config{InFlight: 8, Hedged: 0.5})
	var opened [2]source.Object
	for i, name := range []string{"a", "b"} {
		for opened[i] == nil {
			opened[i], _ = s.Open(t.Context(), name)
			time.Sleep(time.Second) // It may be dead.
		}
		defer opened[i].Close()
	}
	var readers sync.WaitGroup
	right := 0
	for reader := range uint64(12) {
		readers.Go(func() {
			rng := rand.New(rand.NewPCG(seed, 100+reader))
			for range 100 {
				i := rng.IntN(2)
				data := objects[string(rune('a'+i))]
				off := rng.IntN(len(data))
				p := make([]byte, rng.IntN(min(len(data)-off, 50_000))+1)
				ctx, cancel := context.WithCancel(t.Context())
				if rng.IntN(10) == 0 {
					time.AfterFunc(upTo(rng, time.Second), cancel)
				}
				_, err := opened[i].ReadAt(ctx, p, int64(off))
				cancel()
				switch {
				case err == nil && !bytes.Equal(p, data[off:off+len(p)]):
					t.Errorf("%d bytes at %d are wrong", len(p), off)
				case err == nil:
					mu.Lock()
					right++
					mu.Unlock()
				case errors.Is(err, fs.ErrClosed), ctx.Err() == nil && errors.Is(err, context.Canceled):
					t.Errorf("an error of nobody's: %v", err)
				}
				mine := bytes.Repeat([]byte{0x3C}, len(p))
				copy(p, mine)
				time.Sleep(upTo(rng, 100*time.Millisecond))
				if !bytes.Equal(p, mine) {
					t.Error("written to after the read")
				}
			}
		})
	}
	readers.Wait()
	st := s.Stats()
	if right < 600 || st.Hedges == 0 || st.HedgesWon == 0 || st.Retries == 0 || st.Failures["timeout"] == 0 {
		t.Errorf("%d reads of 1200 went well: %+v", right, st)
	}
	time.Sleep(time.Minute) // Losers may be deaf, and a dead source is probed.
	if st := s.Stats(); st.InFlight != 0 || st.Waiting != 0 {
		t.Errorf("%+v", st)
	}
}

// upTo is a random time.
func upTo(rng *rand.Rand, most time.Duration) time.Duration {
	return time.Duration(rng.Int64N(int64(most)))
}
