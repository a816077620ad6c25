package patient

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/tesserafs/tesserafs/tilecache/source"
)

var mixedSizes = []int64{0, 8 << 10, 32 << 10, 32 << 10, 128 << 10, 200 << 10, 1 << 20, 3 << 20, 8 << 20}

// within says whether two numbers differ by at most a share.
func within(got, want, share float64) bool {
	return math.Abs(got-want) <= share*want
}

// Catches an estimate that is off, slow to come, or moved by a request that stalled.
func TestPace(t *testing.T) {
	for _, latency := range []time.Duration{time.Millisecond, 5 * time.Millisecond, 30 * time.Millisecond, 200 * time.Millisecond} {
		for _, bandwidth := range []float64{1e6, 10e6, 100e6, 1000e6} {
			for _, noise := range []struct {
				name   string
				jitter float64 // of latency and transfer
				stall  int     // one request in so many takes ten times its time
			}{{"quiet", 0, 0}, {"jitter", 0.1, 0}, {"stalls", 0, 10}, {"both", 0.1, 10}} {
				t.Run(fmt.Sprintf("%v/%gMBs/%s", latency, bandwidth/1e6, noise.name), func(t *testing.T) {
					for seed := range uint64(10) {
						rng := rand.New(rand.NewPCG(seed, 2))
						vary := func() float64 { return 1 + noise.jitter*(2*rng.Float64()-1) }
						e := estimator{connections: 7}
						// Twenty that are truly mixed: each size comes at least twice.
						sizes := append(slices.Concat(mixedSizes, mixedSizes), 32<<10, 1<<20)
						rng.Shuffle(len(sizes), func(i, j int) { sizes[i], sizes[j] = sizes[j], sizes[i] })
						for i, bytes := range sizes {
							took := latency.Seconds()*vary() + float64(bytes)/bandwidth*vary()
							if noise.stall > 0 && i%noise.stall == noise.stall-1 {
								took *= 10
							}
							e.saw(bytes, seconds(took))
						}
						p := e.now()
						// What matters is the time of a request of any size.
						for _, bytes := range mixedSizes {
							want := latency.Seconds() + float64(bytes)/bandwidth
							if got := e.expect(bytes).Seconds(); !within(got, want, 0.3) {
								t.Errorf("seed %d: %d bytes are expected to take %.4g s, and take %.4g (%+v)", seed, bytes, got, want, p)
							}
						}
						// Each of the two alone can be known as far as it stands out of the jitter.
						transfer := float64(slices.Max(mixedSizes)) / bandwidth
						if l := p.Latency.Seconds(); !within(l, latency.Seconds(), 0.3) {
							t.Errorf("seed %d: latency %v, want %v", seed, p.Latency, latency)
						}
						if transfer > 5*noise.jitter*latency.Seconds() && !within(p.Bandwidth, bandwidth, 0.3) {
							t.Errorf("seed %d: bandwidth %.4g, want %.4g", seed, p.Bandwidth, bandwidth)
						}
						if p.Connections != 7 {
							t.Errorf("%d connections", p.Connections)
						}
					}
				})
			}
		}
	}
}

// Catches a division by nothing, and a hope that was not shown, where requests say little.
func TestPaceOfLittle(t *testing.T) {
	for _, test := range []struct {
		name      string
		seen      []sample
		latency   time.Duration
		bandwidth float64
	}{
		{"nothing", nil, 0, 0},
		{"no bytes", []sample{{0, 0.03}}, 0, 0},
		{"one", []sample{{32 << 10, 0.030655}}, 30 * time.Millisecond, 50e6},
		{"nearly of one size", []sample{{32 << 10, 0.030655}, {32<<10 - 9, 0.0303}, {32 << 10, 0.030655}, {32<<10 + 99, 0.034}}, 30 * time.Millisecond, 50e6},
		{"quicker than usual", []sample{{32 << 10, 0.001}}, 500 * time.Microsecond, 65.5e6},
		{"in no time", []sample{{1000, 0}}, quickest, 200e6},
		{"small ones slower than large ones", []sample{{1000, 0.02}, {16 << 20, 0.01}, {15 << 20, 0.011}}, 10980 * time.Microsecond, 840e9},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := estimator{connections: 1}
			for _, s := range test.seen {
				e.saw(s.bytes, seconds(s.seconds))
			}
			p := e.now()
			if test.latency != 0 && (!within(p.Latency.Seconds(), test.latency.Seconds(), 0.01) || !within(p.Bandwidth, test.bandwidth, 0.01)) {
				t.Errorf("%+v, want %v and %v", p, test.latency, test.bandwidth)
			}
			if zero := p == (source.Pace{}); zero != (test.latency == 0) {
				t.Errorf("%+v", p)
			}
			if p != (source.Pace{}) && (p.Latency <= 0 || p.Bandwidth <= 0 || math.IsInf(p.Bandwidth, 0) || math.IsNaN(p.Bandwidth)) {
				t.Errorf("%+v", p)
			}
		})
	}
}

// Catches an estimate that clings to the past, or that many small requests make forget what large
// ones have shown.
func TestPaceMoves(t *testing.T) {
	e := estimator{connections: 1}
	see := func(n int, latency, bandwidth float64, sizes ...int64) {
		for i := range n {
			bytes := sizes[i%len(sizes)]
			e.saw(bytes, seconds(latency+float64(bytes)/bandwidth))
		}
	}
	see(50, 0.01, 100e6, mixedSizes...)
	see(1000, 0.01, 100e6, 32<<10)
	if p := e.now(); !within(p.Bandwidth, 100e6, 0.3) || !within(p.Latency.Seconds(), 0.01, 0.3) {
		t.Errorf("after many small ones: %+v", p)
	}
	see(60, 0.1, 5e6, mixedSizes...)
	if p := e.now(); !within(p.Bandwidth, 5e6, 0.3) || !within(p.Latency.Seconds(), 0.1, 0.3) {
		t.Errorf("after the change: %+v", p)
	}
}

// BenchmarkPace is what the estimate costs a request.
func BenchmarkPace(b *testing.B) {
	e := estimator{connections: 64}
	for i := 0; b.Loop(); i++ {
		e.saw(mixedSizes[i%len(mixedSizes)], 20*time.Millisecond+time.Duration(i%1000)*time.Microsecond)
		e.expect(32 << 10)
	}
}
