package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tesserafs/tesserafs/synth"
	"github.com/tesserafs/tesserafs/tilecache/catalogue"
)

// How a mount is refreshed: on SIGHUP, and with --refresh at intervals, the archive is read again while
// what was read before is still shown. Then the tree of what it is now takes the other's place
// (synth.Tree.Refresh, fusefs.Server.Replace), and the other is closed when none of its files is open any
// more. If the archive cannot be read, nothing changes but the log and the status.
//
// A terminal that closes sends SIGHUP too. It ends a mount in the foreground, which belongs to it; one that
// was started with nohup goes on, and so does a daemon, which has none.

// hangUpIgnored is whether this process was started with nohup; it is asked before run catches SIGHUP.
var hangUpIgnored = signal.Ignored(syscall.SIGHUP)

// minRefresh is the shortest interval.
const minRefresh = time.Second

func checkRefresh(every time.Duration) error {
	if every != 0 && every < minRefresh {
		return usageError("--refresh is an interval such as 1h or 90s, at least %s, or 0 for never; not %s", minRefresh, every)
	}
	return nil
}

// refresher refreshes a mount.
type refresher struct {
	m        *mounted
	every    time.Duration // 0: only on SIGHUP
	hangUps  chan os.Signal
	terminal bool // the mount ends with its terminal

	stop     func()        // ends what start began
	over     chan struct{} // closed when nothing is served any more
	replaced sync.WaitGroup
}

// newRefresher takes SIGHUP over, which until then ends the command.
func newRefresher(m *mounted, every time.Duration) *refresher {
	r := &refresher{
		m: m, every: every, hangUps: make(chan os.Signal, 1),
		terminal: hasTerminal() && !hangUpIgnored,
		stop:     func() {}, over: make(chan struct{}),
	}
	signal.Ignore(syscall.SIGHUP) // takes it from all who asked for it
	signal.Notify(r.hangUps, syscall.SIGHUP)
	return r
}

// start refreshes from now on, until ctx ends or close. It calls end when the mount is to end.
func (r *refresher) start(ctx context.Context, end func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	r.stop = func() { cancel(); <-done }
	go func() {
		defer close(done)
		r.run(ctx, end)
	}()
}

// run refreshes one at a time; whoever asks while one is under way gets another.
func (r *refresher) run(ctx context.Context, end func()) {
	var tick <-chan time.Time
	if r.every > 0 {
		ticker := time.NewTicker(r.every)
		defer ticker.Stop()
		tick = ticker.C
	}
	asked := false
	var under chan struct{} // closed when the refresh under way is done; nil: none is
	defer func() {
		if under != nil {
			<-under
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case <-under:
			under = nil
		case <-tick:
			asked = true
		case <-r.hangUps:
			if r.terminal && !hasTerminal() {
				r.m.log.Info("the terminal has gone")
				end()
				continue
			}
			asked = true
		}
		if asked && under == nil {
			asked, under = false, make(chan struct{})
			go func(done chan struct{}) {
				defer close(done)
				r.refresh(ctx)
			}(under)
		}
	}
}

// refresh shows the archive as it is now, or says why not.
func (r *refresher) refresh(ctx context.Context) {
	m, begin := r.m, time.Now()
	before := m.tree.Load()
	err := before.Refresh(ctx, m.readAgain, func(next *synth.Tree) {
		m.tree.Store(next)
		m.stored.Store(storedBytes(next.Catalogue()))
		released := m.server.Replace(next.Root())
		r.replaced.Go(func() {
			select {
			case <-released:
			case <-r.over:
			}
			if err := before.Close(); err != nil {
				m.log.Warn("closing a tree that was replaced", "error", err)
			}
		})
	})
	switch {
	case err == nil:
		m.log.Info("the archive was read again", "took", time.Since(begin).Round(time.Millisecond))
	case ctx.Err() == nil:
		m.log.Error("the archive could not be read again: what was read before is still shown", "reason", oneLine(err.Error()))
	}
}

// readAgain reads the archive's catalogue again. It fails where the source could not be asked whether it has
// changed.
func (m *mounted) readAgain(ctx context.Context, shown *catalogue.Catalogue) (*catalogue.Catalogue, error) {
	a := m.archive
	cfg := catalogue.Config{Dataset: a.only, Log: m.log}
	if a.reach != nil {
		cfg = a.reach.catalogue(a.only)
	}
	cfg.Previous = shown
	c, err := catalogue.Open(ctx, a.source, cfg)
	if err != nil {
		return nil, err
	}
	for _, ds := range c.Datasets {
		if _, why := ds.Stale(); why != "" {
			return nil, fmt.Errorf("dataset %s: %s", ds.Name(), why)
		}
	}
	return c, nil
}

// close gives up what is under way and closes the trees that were replaced. Nothing is served any more.
func (r *refresher) close() {
	r.stop()
	close(r.over)
	r.replaced.Wait()
}

// storedBytes is what df shows of an archive.
func storedBytes(c *catalogue.Catalogue) (total int64) {
	for _, ds := range c.Datasets {
		total += ds.Bytes()
	}
	return total
}

// hasTerminal tells whether this process belongs to a terminal that is there.
func hasTerminal() bool {
	fd, err := unix.Open("/dev/tty", unix.O_RDONLY|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	_ = unix.Close(fd)
	return true
}
