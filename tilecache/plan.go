package tilecache

import (
	"cmp"
	"slices"
	"time"

	"github.com/tesserafs/tesserafs/tilecache/source"
)

// run is consecutive pages of an object: first, and those up to end.
type run struct{ first, end int64 }

func (r run) pages() int64 { return r.end - r.first }

// bounds are what a plan keeps to, in pages.
type bounds struct {
	request int64 // of one request
	strip   int64 // that runs are joined to
	beside  int64 // read along with all that is wanted
}

// widestGap is the most pages that are read for nothing between two runs. The rows of a tile are up
// to 143 kB apart. Single points lie further from each other, and their neighbours are not wanted.
const widestGap = 256 << 10 / pageSize

// slack is how much longer than the quickest plan another may take that keeps the connections busy
// for less: its work is done sooner when many read at once.
const slack = 1.3

// plan says by which requests wanted pages are to be had. The runs ascend and do not touch.
//
// The model: a request takes the latency and then its bytes at the bandwidth of one connection;
// as many requests as there are connections are under way at once, and none slows another down. So
// joining two runs over a gap saves a latency and costs the time of the gap's bytes, and cutting a
// run costs a latency and saves waiting. Tried are: joining gaps up to every width there is, and
// cutting what that gives ever finer. Of the
// plans that take at most [slack] times as long as the quickest, the one with the least work is
// taken: the sum of the times of its requests.
//
// Where connections share one line the bandwidth that each has shown falls as more are used, and
// plans become thriftier with bytes by that.
func plan(wanted []run, pace source.Pace, b bounds) []run {
	type choice struct {
		gap, request  int64
		elapsed, work float64
	}
	var (
		m      = modelOf(pace)
		needed = pagesOf(wanted)
		joined = make([]run, 0, len(wanted))
		free   = make([]float64, m.connections)
		tried  []choice
	)
	for _, gap := range gapsOf(wanted) {
		joined = join(joined[:0], wanted, gap, b.strip)
		total := pagesOf(joined)
		if gap > 0 && total-needed > b.beside {
			break // wider gaps have more beside
		}
		try := func(request int64) {
			c := choice{gap: gap, request: request}
			c.elapsed, c.work = m.cost(joined, request, free)
			tried = append(tried, c)
		}
		most := int64(1)
		for _, r := range joined {
			most = max(most, min(r.pages(), b.request))
		}
		// From uncut, as far as may be, down to four parts for each connection, which share the work
		// of uneven runs better than one does; and one for each, of even runs.
		each := (total + m.connections - 1) / m.connections
		for size := most; size > each/4 && size > 0; size = size * 3 / 4 {
			try(size)
		}
		try(min(each, most))
	}
	quickest := slices.MinFunc(tried, func(x, y choice) int { return cmp.Compare(x.elapsed, y.elapsed) })
	best := quickest
	for _, c := range tried {
		if c.elapsed <= slack*quickest.elapsed && c.work < best.work {
			best = c
		}
	}
	return cut(join(joined[:0], wanted, best.gap, b.strip), best.request)
}

// maxGaps is how many widths of gaps are tried.
const maxGaps = 9

// model is a Pace in the units of plan.
type model struct {
	latency, page float64 // seconds: before a request's first byte, and for each of its pages
	connections   int64
}

// What is taken for the pace of a source that has not shown it, and what is believed at all.
const (
	usualLatency     = 30 * time.Millisecond
	usualBandwidth   = 50e6
	usualConnections = 16

	maxConnections   = 1024
	leastLatency     = 500 * time.Microsecond // below it is the work that a request makes here
	slowest, fastest = 1e5, 2e9               // bytes a second, of one connection
)

// believed fills in what a Pace does not say.
func believed(p source.Pace) source.Pace {
	if p.Latency <= 0 {
		p.Latency = usualLatency
	}
	if !(p.Bandwidth > 0) {
		p.Bandwidth = usualBandwidth
	}
	if p.Connections <= 0 {
		p.Connections = usualConnections
	}
	p.Latency = max(p.Latency, leastLatency)
	p.Bandwidth = min(max(p.Bandwidth, slowest), fastest)
	p.Connections = min(p.Connections, maxConnections)
	return p
}

// inFlight is how many bytes come in the time of one latency.
func inFlight(p source.Pace) int64 { return int64(p.Latency.Seconds() * p.Bandwidth) }

func modelOf(p source.Pace) model {
	p = believed(p)
	return model{p.Latency.Seconds(), pageSize / p.Bandwidth, int64(p.Connections)}
}

// cost is how long runs take when none is asked for in requests of more than so many pages, and the
// sum of what the requests take. free is room for a number for each connection.
func (m model) cost(runs []run, request int64, free []float64) (elapsed, work float64) {
	clear(free)
	for _, r := range runs {
		n := parts(r, request)
		each := m.latency + float64(r.pages())/float64(n)*m.page
		work += float64(n) * each
		for range n {
			// The connection that is free first takes it.
			free[0] += each
			elapsed = max(elapsed, free[0])
			sink(free)
		}
	}
	return elapsed, work
}

// sink restores a heap whose least number has grown.
func sink(heap []float64) {
	for i := 0; ; {
		least := 2*i + 1
		if least+1 < len(heap) && heap[least+1] < heap[least] {
			least++
		}
		if least >= len(heap) || heap[i] <= heap[least] {
			return
		}
		heap[i], heap[least] = heap[least], heap[i]
		i = least
	}
}

// parts is into how many requests a run is cut.
func parts(r run, request int64) int64 { return (r.pages() + request - 1) / request }

// cut cuts runs into even parts.
func cut(runs []run, request int64) []run {
	var out []run
	for _, r := range runs {
		n := parts(r, request)
		for i := range n {
			out = append(out, run{r.first + r.pages()*i/n, r.first + r.pages()*(i+1)/n})
		}
	}
	return out
}

// join appends runs to out, joined over gaps of up to so many pages to strips of up to so many.
func join(out, runs []run, gap, strip int64) []run {
	for _, r := range runs {
		if last := len(out) - 1; last >= 0 && gap > 0 && r.first-out[last].end <= gap && r.end-out[last].first <= strip {
			out[last].end = r.end
			continue
		}
		out = append(out, r)
	}
	return out
}

// gapsOf lists the widths of gaps that may be joined, ascending from 0, which joins none. Those of a tile's rows
// differ by a page, as rows begin anywhere in one: they are joined together, or the strip would have
// holes for its next reader to find. Of many widths, some are picked.
func gapsOf(runs []run) []int64 {
	var gaps []int64
	for i := 1; i < len(runs); i++ {
		gap := runs[i].first - runs[i-1].end
		if gap > widestGap {
			continue
		}
		if at, found := slices.BinarySearch(gaps, gap); !found {
			gaps = slices.Insert(gaps, at, gap)
		}
	}
	// There are at most widestGap of them.
	widths := gaps[:0]
	for i, gap := range gaps {
		if i+1 == len(gaps) || gaps[i+1] != gap+1 {
			widths = append(widths, gap)
		}
	}
	gaps = widths
	out := []int64{0}
	for picks := min(len(gaps), maxGaps-1); picks > 0; picks-- {
		out = append(out, gaps[len(gaps)-1-(picks-1)*len(gaps)/min(len(gaps), maxGaps-1)])
	}
	return out
}

func pagesOf(runs []run) (n int64) {
	for _, r := range runs {
		n += r.pages()
	}
	return n
}
