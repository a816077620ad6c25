package tilecache

import (
	"container/heap"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/tesserafs/tesserafs/tilecache/source"
)

// busyUntil is connections by when they are free again.
type busyUntil []float64

func (b busyUntil) Len() int           { return len(b) }
func (b busyUntil) Less(i, j int) bool { return b[i] < b[j] }
func (b busyUntil) Swap(i, j int)      { b[i], b[j] = b[j], b[i] }
func (b *busyUntil) Push(x any)        { *b = append(*b, x.(float64)) }
func (b *busyUntil) Pop() any          { panic("connections stay") }

// simulate is how long requests take, each begun on the connection that is free first.
func simulate(requests []run, pace source.Pace) float64 {
	free := make(busyUntil, pace.Connections)
	var end float64
	for _, r := range requests {
		free[0] += pace.Latency.Seconds() + float64(r.pages()*pageSize)/pace.Bandwidth
		end = max(end, free[0])
		heap.Fix(&free, 0)
	}
	return end
}

// rowsOf is the pages of n ranges of so many bytes, each so far from the one before.
func rowsOf(off int64, n int, bytes, stride int64) []run {
	var numbers []int64
	for i := range int64(n) {
		for p := (off + i*stride) / pageSize; p*pageSize < off+i*stride+bytes; p++ {
			numbers = append(numbers, p)
		}
	}
	slices.Sort(numbers)
	return runsOf(slices.Compact(numbers))
}

// shapes are the pages that reads of real tiles want.
func shapes() map[string][]run {
	rng := rand.New(rand.NewPCG(1, 1))
	var scattered []run
	for at := int64(0); len(scattered) < 40; at += 1 + rng.Int64N(30) {
		n := 1 + rng.Int64N(9)
		scattered = append(scattered, run{at, at + n})
		at += n
	}
	return map[string][]run{
		"one page":                   rowsOf(5<<20, 1, 128, 0),
		"a MiB":                      rowsOf(5<<20, 1, 1<<20, 0),
		"32 MiB":                     rowsOf(5<<20, 1, 32<<20, 0),
		"an inner chunk":             rowsOf(128+640*140_800+8192*20, 64, 8192, 140_800),
		"a wider inner chunk":        rowsOf(128+640*140_800, 128, 16384, 140_800),
		"8 rows of a chunk":          rowsOf(128+100*140_800, 8, 131_072, 140_800),
		"8 rows, few columns":        rowsOf(128+100*140_800+131_072, 8, 4600, 140_800),
		"rows of half a tile":        rowsOf(128+100*140_800, 64, 64_000, 140_800),
		"rows of a northern tile":    rowsOf(128+30*78_000, 64, 8192, 78_000),
		"inner chunk of scales":      rowsOf(128+640*4400, 256, 1024, 4400),
		"points of a column":         rowsOf(128+500*128, 20, 128, 140_800*3),
		"points far apart":           rowsOf(128+500*128, 28, 128, 5_500_000),
		"two rows":                   rowsOf(128, 2, 8192, 140_800),
		"runs and gaps at random":    scattered,
		"a whole tile but some rows": slices.Concat(rowsOf(128, 1, 9<<20, 0), rowsOf(20<<20, 1, 9<<20, 0), rowsOf(31<<20, 1, 100, 0)),
	}
}

// Catches a model of the source that leads to slow plans: for every shape and pace the requests must
// take no longer than 1.5 times the best of all rows, all strips, and every mixture of joining
// gaps and cutting into parts. And plans that miss what is wanted or read it twice.
func TestPlanIsNearTheBest(t *testing.T) {
	limits := bounds{request: 512, strip: 2048, beside: 1 << 30}
	var worst float64
	for name, wanted := range shapes() {
		mixtures := mixturesOf(wanted, limits)
		for _, ms := range []int{1, 5, 30, 200} {
			for _, mb := range []float64{1, 10, 100, 1000} {
				for _, connections := range []int{1, 4, 16, 33, 64} {
					pace := source.Pace{Latency: time.Duration(ms) * time.Millisecond, Bandwidth: mb * 1e6, Connections: connections}
					got := plan(wanted, pace, limits)
					covers(t, got, wanted)
					if name == "points far apart" && pagesOf(got) != pagesOf(wanted) {
						t.Errorf("%s: %d pages", name, pagesOf(got))
					}
					best, how := math.Inf(1), ""
					for mixture, requests := range mixtures {
						if took := simulate(requests, pace); took < best {
							best, how = took, mixture
						}
					}
					took := simulate(got, pace)
					worst = max(worst, took/best)
					if took > 1.5*best {
						t.Errorf("%s at %d ms, %v MB/s, %d connections: %.1f ms in %d requests; %.1f ms with %s",
							name, ms, mb, connections, 1e3*took, len(got), 1e3*best, how)
					}
				}
			}
		}
	}
	t.Logf("the worst plan takes %.2f times as long as the best", worst)
}

// mixturesOf is every way of joining gaps and cutting what that gives, by its name: all rows, all
// strips and what lies between.
func mixturesOf(wanted []run, b bounds) map[string][]run {
	mixtures := make(map[string][]run)
	joined := -1
	for gap := int64(0); gap <= widestGap; gap++ {
		strips := join(nil, wanted, gap, b.strip)
		if len(strips) == joined {
			continue // the same
		}
		joined = len(strips)
		sizes := []int64{b.request}
		for size := b.request; size > 1; {
			size = size * 3 / 4
			sizes = append(sizes, size)
		}
		for k := int64(2); k <= 64; k++ {
			sizes = append(sizes, min(b.request, (pagesOf(strips)+k-1)/k))
		}
		for _, size := range sizes {
			requests := cut(strips, size)
			mixtures[fmt.Sprintf("gaps to %d pages, %d requests", gap, len(requests))] = requests
		}
	}
	return mixtures
}

// covers reports requests that do not ascend, or leave out what is wanted.
func covers(t *testing.T, requests, wanted []run) {
	t.Helper()
	for i, r := range requests {
		if r.first >= r.end || i > 0 && r.first < requests[i-1].end {
			t.Fatalf("request %d of %v", i, requests)
		}
	}
	for _, w := range wanted {
		for p := w.first; p < w.end; p++ {
			if !slices.ContainsFunc(requests, func(r run) bool { return r.first <= p && p < r.end }) {
				t.Fatalf("page %d is in none of %v", p, requests)
			}
		}
	}
}

// Catches plans that go beyond their bounds, and a pace that is not there or makes no sense.
func TestPlanKeepsToItsBounds(t *testing.T) {
	for name, wanted := range shapes() {
		for _, b := range []bounds{{1, 1, 0}, {3, 10, 5}, {64, 300, 100}, {512, 2048, 0}, {512, 2048, 2048}} {
			for _, pace := range []source.Pace{
				{}, {Latency: -1, Bandwidth: math.NaN(), Connections: -1}, {Latency: time.Hour, Bandwidth: 1e-9, Connections: 1 << 30},
				{Latency: 1, Bandwidth: math.Inf(1), Connections: 1}, {Latency: 200 * time.Millisecond, Bandwidth: 1e9, Connections: 1},
			} {
				got := plan(wanted, pace, b)
				covers(t, got, wanted)
				if beside := pagesOf(got) - pagesOf(wanted); beside > b.beside {
					t.Errorf("%s: %d pages beside what is wanted, %d allowed", name, beside, b.beside)
				}
				for _, r := range got {
					if r.pages() > b.request {
						t.Errorf("%s: a request of %d pages, %d allowed", name, r.pages(), b.request)
					}
				}
			}
		}
	}
}

func BenchmarkPlan(b *testing.B) {
	pace := source.Pace{Latency: 30 * time.Millisecond, Bandwidth: 1e8, Connections: 64}
	for _, name := range []string{"one page", "an inner chunk"} {
		wanted := shapes()[name]
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				plan(wanted, pace, bounds{512, 2048, 2048})
			}
		})
	}
}
