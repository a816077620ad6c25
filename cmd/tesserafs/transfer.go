package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

const (
	// transferSays is how long it takes from one line about a transfer to the next where there is no
	// terminal.
	transferSays = 10 * time.Second

	// The rate is that of the last half minute, looked at twice a second.
	rateWindow = 30 * time.Second
	rateStep   = time.Second / 2
)

// transfer shows how far fetching tiles has come: with a bar on a terminal, and otherwise with a line
// now and then. What is written to it goes there too, above the bar.
type transfer struct {
	out      io.Writer
	terminal bool

	mu      sync.Mutex // guards what follows; no call to the bar is made under it, for the bar calls text
	bars    *mpb.Progress
	bar     *mpb.Bar
	total   int64 // bytes
	held    int64 // of them, there before it began
	there   int64 // of those, come past
	fetched int64
	tiles   int
	said    time.Time
	looks   []look // at the bytes fetched, within the window
}

type look struct {
	at      time.Time
	fetched int64
}

func newTransfer(out io.Writer, terminal bool) *transfer {
	return &transfer{out: out, terminal: terminal}
}

// begin shows a transfer of so many bytes, of which some are there.
func (t *transfer) begin(total, held int64) {
	t.mu.Lock()
	t.total, t.held = total, held
	t.said = time.Now()
	t.looks = []look{{at: t.said}}
	t.mu.Unlock()
	if !t.terminal {
		return
	}
	bars := mpb.New(mpb.WithOutput(t.out), mpb.WithWidth(40))
	bar := bars.New(0, mpb.BarStyle(), mpb.PrependDecorators(decor.Name("warming ")), mpb.BarRemoveOnComplete(),
		mpb.AppendDecorators(decor.Any(func(decor.Statistics) string {
			t.mu.Lock()
			defer t.mu.Unlock()
			return t.text(time.Now())
		})))
	bar.SetTotal(total, false)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.bars, t.bar = bars, bar
}

// resize corrects the number of bytes by what an object has more, or less, than was thought.
func (t *transfer) resize(more int64) {
	t.mu.Lock()
	t.total += more
	bar, total := t.bar, t.total
	t.mu.Unlock()
	if bar != nil && more != 0 {
		bar.SetTotal(total, false)
	}
}

// add notes bytes that came, and bytes that were there.
func (t *transfer) add(fetched, there int64) {
	t.mu.Lock()
	now := time.Now()
	t.fetched += fetched
	t.there += there
	if last := t.looks[len(t.looks)-1]; now.Sub(last.at) >= rateStep {
		t.looks = append(t.looks, look{now, t.fetched})
		for len(t.looks) > 2 && now.Sub(t.looks[1].at) > rateWindow {
			t.looks = t.looks[1:]
		}
	}
	if !t.terminal && now.Sub(t.said) >= transferSays {
		t.said = now
		fmt.Fprintln(t.out, t.text(now))
	}
	bar, done := t.bar, t.done()
	t.mu.Unlock()
	if bar != nil {
		bar.SetCurrent(done)
	}
}

// tile counts a tile.
func (t *transfer) tile() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tiles++
}

// done is how many bytes are in the cache of what has come past. The caller holds t.mu.
func (t *transfer) done() int64 { return t.fetched + t.there }

// text says how far it is, how fast it goes, and how long it will take. The caller holds t.mu.
func (t *transfer) text(now time.Time) string {
	text := fmt.Sprintf("%s of %s, %s", byteSize(t.done()), byteSize(t.total), count(t.tiles, "tile"))
	first := t.looks[0]
	took, came := now.Sub(first.at), t.fetched-first.fetched
	if took < time.Second || came <= 0 {
		return text
	}
	rate := float64(came) / took.Seconds()
	// What was there is come past in no time.
	left := max(0, t.total-t.done()-max(0, t.held-t.there))
	return text + fmt.Sprintf(", %s/s, about %s left", byteSize(rate), roughly(time.Duration(float64(left)/rate*float64(time.Second))))
}

// roughly writes a time as exactly as an estimate is.
func roughly(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int((d+time.Second-1)/time.Second))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Round(time.Minute)/time.Minute))
	}
	return fmt.Sprintf("%.1f h", min(d.Hours(), 1e5))
}

// Write prints a line, above the bar.
func (t *transfer) Write(p []byte) (int, error) { return t.over(t.out).Write(p) }

// over is where to print to out: above the bar, if there is one and both are on a terminal.
func (t *transfer) over(out io.Writer) io.Writer {
	t.mu.Lock()
	defer t.mu.Unlock()
	f, file := out.(*os.File)
	if t.bars != nil && (out == t.out || file && isTerminal(f)) {
		return t.bars
	}
	return out
}

// end takes the bar off the terminal.
func (t *transfer) end() {
	t.mu.Lock()
	bars, bar := t.bars, t.bar
	t.bars, t.bar = nil, nil
	t.mu.Unlock()
	if bar != nil {
		bar.Abort(true)
		bars.Wait()
	}
}
