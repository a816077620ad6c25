package patient

import (
	"sync/atomic"
	"time"
)

// Stats counts what was asked of the source and what came of it.
type Stats struct {
	Requests    int64            `json:"requests"` // sent; retries, second requests and probes among them
	Bytes       int64            `json:"bytes"`    // that came with opens, reads and streams, those of second requests among them
	Retries     int64            `json:"retries"`
	Hedges      int64            `json:"hedges"`      // requests sent beside a slow one,
	HedgesWon   int64            `json:"hedges_won"`  // and those whose answer was taken
	Unavailable int64            `json:"unavailable"` // calls that failed with source.ErrUnavailable
	Failures    map[string]int64 `json:"failures"`    // of requests: missing, denied, changed, other, transient, timeout
	InFlight    int64            `json:"in_flight"`   // requests now
	Waiting     int64            `json:"waiting"`     // calls now that wait for a place among those
	Breaker     Breaker          `json:"breaker"`
	Latency     Histogram        `json:"latency"` // of opens and reads that brought what was asked, whole requests; a stream takes as long as its reader
}

// Breaker is whether the source answers.
type Breaker struct {
	State  string    `json:"state"` // "alive" or "dead"
	Since  time.Time `json:"since"`
	Why    string    `json:"why,omitempty"`
	Deaths int64     `json:"deaths"`
}

// Histogram counts durations as Prometheus does: each bucket holds those before it.
type Histogram struct {
	Buckets []Bucket `json:"buckets"`
	Count   int64    `json:"count"`
	Sum     float64  `json:"sum"` // seconds
}

// Bucket counts the durations up to a bound in seconds.
type Bucket struct {
	UpTo  float64 `json:"le"`
	Count int64   `json:"count"`
}

// Stats says what was asked of the source and what came of it.
func (s *Source) Stats() Stats {
	c := &s.counts
	st := Stats{
		Requests:    c.requests.Load(),
		Bytes:       c.bytes.Load(),
		Retries:     c.retries.Load(),
		Hedges:      c.hedges.Load(),
		HedgesWon:   c.hedgesWon.Load(),
		Unavailable: c.unavailable.Load(),
		Failures:    make(map[string]int64),
		InFlight:    c.inFlight.Load(),
		Waiting:     c.waiting.Load(),
		Breaker:     s.breaker.stats(),
		Latency:     c.latency.stats(),
	}
	for k, name := range kindNames {
		if name != "" {
			st.Failures[name] = c.failures[k].Load()
		}
	}
	return st
}

func (b *breaker) stats() Breaker {
	b.mu.Lock()
	defer b.mu.Unlock()
	st := Breaker{State: "alive", Since: b.since, Deaths: b.deaths}
	if b.dead != nil {
		st.State, st.Why = "dead", b.dead.why.Error()
	}
	return st
}

// counters are what Stats is made of.
type counters struct {
	requests, bytes, retries, hedges, hedgesWon, unavailable atomic.Int64
	inFlight, waiting                                        atomic.Int64

	failures [kinds]atomic.Int64
	latency  histogram
}

// bounds are those of the histogram, in seconds: from a server in the same room to the patience of
// most tools.
var bounds = [...]float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30}

type histogram struct {
	counts [len(bounds) + 1]atomic.Int64 // not cumulative; the last is above all bounds
	nanos  atomic.Int64
}

func (h *histogram) add(took time.Duration) {
	seconds := took.Seconds()
	i := 0
	for i < len(bounds) && seconds > bounds[i] {
		i++
	}
	h.counts[i].Add(1)
	h.nanos.Add(int64(took))
}

func (h *histogram) stats() Histogram {
	var st Histogram
	for i, bound := range bounds {
		st.Count += h.counts[i].Load()
		st.Buckets = append(st.Buckets, Bucket{UpTo: bound, Count: st.Count})
	}
	st.Count += h.counts[len(bounds)].Load()
	st.Sum = time.Duration(h.nanos.Load()).Seconds()
	return st
}
