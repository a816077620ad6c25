package main

import (
	"os"
	"sync"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// progress shows how many tiles are done, on a terminal: where standard error is none, mpb prints
// nothing.
type progress struct {
	what  string
	unit  string // what is counted
	total int64  // 0: not known

	mu    sync.Mutex // guards what follows: the bar is made when there is something to show
	bars  *mpb.Progress
	bar   *mpb.Bar
	ended bool
}

func newProgress(what string, total int64) *progress {
	return &progress{what: what, unit: "tiles", total: total}
}

// set shows that so many tiles are done. Several goroutines may call it; the highest number counts.
func (p *progress) set(tiles int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return
	}
	if p.bar == nil {
		p.bars = mpb.New(mpb.WithOutput(os.Stderr), mpb.WithWidth(40))
		before := mpb.PrependDecorators(decor.Name(p.what + " "))
		if p.total > 0 {
			p.bar = p.bars.New(p.total, mpb.BarStyle(), before, mpb.BarRemoveOnComplete(),
				mpb.AppendDecorators(decor.CountersNoUnit("%d of %d "+p.unit)))
		} else {
			p.bar = p.bars.New(0, mpb.SpinnerStyle(), before, mpb.BarRemoveOnComplete(),
				mpb.AppendDecorators(decor.CurrentNoUnit("%d "+p.unit)))
		}
	}
	if int64(tiles) > p.bar.Current() {
		p.bar.SetCurrent(int64(tiles))
	}
}

// end takes the bar off the terminal.
func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	if p.bar != nil {
		p.bar.Abort(true)
		p.bars.Wait()
	}
}

// fetchProgress shows how many bytes of an object have come, on a terminal.
type fetchProgress struct {
	mu   sync.Mutex // guards what follows
	name string
	bars *mpb.Progress
	bar  *mpb.Bar
}

func newFetchProgress() *fetchProgress { return &fetchProgress{} }

// set shows that so many bytes of an object are there; another object is another bar.
func (p *fetchProgress) set(name string, done, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar == nil || p.name != name {
		p.clear()
		p.name = name
		p.bars = mpb.New(mpb.WithOutput(os.Stderr), mpb.WithWidth(40))
		p.bar = p.bars.New(total, mpb.BarStyle(), mpb.PrependDecorators(decor.Name("fetching "+name+" ")), mpb.BarRemoveOnComplete(),
			mpb.AppendDecorators(decor.CountersKibiByte("% .1f of % .1f")))
	}
	p.bar.SetCurrent(done)
}

func (p *fetchProgress) clear() {
	if p.bar != nil {
		p.bar.Abort(true)
		p.bars.Wait()
		p.bar = nil
	}
}

// end takes the bar off the terminal.
func (p *fetchProgress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
}
