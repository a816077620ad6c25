package patient

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tesserafs/tesserafs/tilecache/source"
)

const (
	sizeClasses = 6 // under 16 KiB, 64 KiB, 256 KiB, 1 MiB, 4 MiB, and above
	classKeeps  = 5 // requests of each

	fitEachUntil = 24 // requests; after that every sixteenth is fitted
	fitEvery     = 16

	// What is taken for shown before anything is: a bandwidth that one connection to S3 has, as a pair
	// of requests that lie this many bytes apart would say it.
	usualBandwidth = 50e6
	usualBytes     = 256 << 10

	leastShare = 0.002 // of the time of a request that its bytes are taken to need at least
	quickest   = 10 * time.Microsecond
)

// estimator is the running estimate of how the source answers. It takes a request of n bytes to need
// the latency and n bytes at the bandwidth, and fits both to the requests seen last.
//
// Of each class of sizes it keeps the newest few, so that a thousand small reads do not make it forget
// what the large ones have shown.
type estimator struct {
	connections int

	mu      sync.Mutex // guards what follows
	classes [sizeClasses][]sample
	oldest  [sizeClasses]int // where the next sample of a class goes once it is full
	seen    int

	fitted atomic.Pointer[source.Pace] // nil before anything was shown
}

// sample is one request.
type sample struct {
	bytes   int64
	seconds float64
}

// saw learns from a request that brought bytes, undisturbed by retries and second requests.
func (e *estimator) saw(bytes int64, took time.Duration) {
	class := min(sizeClasses-1, (bits.Len64(uint64(bytes)>>14)+1)/2)
	seen := sample{bytes, max(took, quickest).Seconds()}
	e.mu.Lock()
	defer e.mu.Unlock()
	if kept := &e.classes[class]; len(*kept) < classKeeps {
		*kept = append(*kept, seen)
	} else {
		(*kept)[e.oldest[class]] = seen
		e.oldest[class] = (e.oldest[class] + 1) % classKeeps
	}
	if e.seen++; e.seen > fitEachUntil && e.seen%fitEvery != 0 {
		return
	}
	latency, bandwidth, ok := fit(slices.Concat(e.classes[:]...))
	if ok {
		e.fitted.Store(&source.Pace{Latency: latency, Bandwidth: bandwidth, Connections: e.connections})
	}
}

// now is the estimate.
func (e *estimator) now() source.Pace {
	if p := e.fitted.Load(); p != nil {
		return *p
	}
	return source.Pace{}
}

// expect is how long a request should take; 0 before anything was shown.
func (e *estimator) expect(bytes int64) time.Duration {
	p := e.fitted.Load()
	if p == nil {
		return 0
	}
	return p.Latency + time.Duration(float64(bytes)/p.Bandwidth*float64(time.Second))
}

// fit finds latency and bandwidth (bytes a second) by the medians of Theil and Sen: the time of a byte
// is the median of what all pairs of requests say, the latency the median of what the bytes leave
// over. Requests that stalled, up to a quarter of them or so, do not move it, as they would the line
// of least squares. Times scatter in proportion to themselves, and what a request says is weighed
// by that. ok is false where no request brought bytes.
//
// Requests of one size, or nearly, cannot tell the two apart. So usualBandwidth has a say, until larger
// differences have more weight.
func fit(seen []sample) (latency time.Duration, bandwidth float64, ok bool) {
	var slopes, rates, times []weighed
	for i, a := range seen {
		times = append(times, weighed{a.seconds, 1})
		if a.bytes > 0 {
			rates = append(rates, weighed{a.seconds / float64(a.bytes), 1})
		}
		for _, b := range seen[:i] {
			if more := float64(a.bytes - b.bytes); more != 0 {
				slopes = append(slopes, weighed{(a.seconds - b.seconds) / more, math.Abs(more) / (a.seconds + b.seconds)})
			}
		}
	}
	if len(rates) == 0 {
		return 0, 0, false
	}
	typical := median(rates) // of the whole time, for each byte
	// The more requests, the more pairs that are near in size, whose difference is in the scatter.
	say := usualBytes * float64(len(seen)) / 4
	slopes = append(slopes, weighed{min(1/usualBandwidth, typical/2), say / median(times)})
	perByte := max(median(slopes), leastShare*rates[0].value) // median has sorted them
	var left []weighed
	for _, s := range seen {
		left = append(left, weighed{s.seconds - perByte*float64(s.bytes), 1 / s.seconds})
	}
	return max(quickest, seconds(median(left))), 1 / perByte, true
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// weighed is a value and its weight, above 0.
type weighed struct{ value, weight float64 }

// median is the value with as much weight below it as above. It sorts what it is given, which is not
// empty.
func median(all []weighed) float64 {
	slices.SortFunc(all, func(a, b weighed) int { return cmp.Compare(a.value, b.value) })
	var half float64
	for _, w := range all {
		half += w.weight / 2
	}
	for _, w := range all {
		if half -= w.weight; half <= 0 {
			return w.value
		}
	}
	return all[len(all)-1].value
}
