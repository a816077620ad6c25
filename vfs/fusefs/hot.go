package fusefs

import (
	"cmp"
	"context"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

const (
	// hotAge is the number of opens, of all files, after which those before count half: what is read again
	// and again now takes the place of what was so before.
	hotAge = 64

	// maxAwait is how long an open waits for a copy that is being made just then. Copying takes
	// about as long as reading without the copy; it takes longer where memory must be found first.
	maxAwait = 200 * time.Millisecond

	// maxRelease is how long an open waits for handles that ask this process to be closed: the
	// kernel tells of a close on its own time, and the next open may overtake it.
	maxRelease = 5 * time.Millisecond
)

// hot keeps copies of files that are read again and again, for the kernel to read without this
// process (package doc, "Hot copies").
type hot struct {
	log    *slog.Logger
	budget int64
	files  *copyFiles
	queue  chan *fileNode // files to copy
	later  chan *fileNode // files to copy when nobody reads
	reads  func() int64   // how many reads there were
	cancel context.CancelFunc
	done   chan struct{} // closed when the filler has ended

	mu     sync.Mutex // guards what follows, and the heat of every file
	used   int64      // bytes of copies, and of those being made
	queued int64      // bytes of files in the queue
	copies map[*hotCopy]struct{}
	opens  uint64
}

// heat is what hot knows of a file. The kernel takes either handles that read a copy or handles that
// ask this process, and answers a mixture with EIO: so while one kind is open, every other open is
// of that kind too.
type heat struct {
	asking  int      // open handles that ask this process
	copying int      // open handles that read shown
	shown   *hotCopy // what they read
	copy    *hotCopy // complete, for opens to come; nil: none

	count  uint64 // opens, those of each age before the last counting half
	age    uint64 // when count was last brought up to date
	read   int64  // bytes this process answered
	queued bool   // is in the queue, or being copied
	later  bool   // is to be copied when nobody reads
	barred bool   // never again: a read of it failed, or it has changed

	filled chan struct{} // closed when the copying under way has ended; nil: none is under way
	left   chan struct{} // closed when no handle asks any more; nil: nobody waits for that
	busy   bool          // waiting for left was in vain; until no handle asks any more
}

// hotCopy is a whole copy of a file. It is never written again once it is complete, nor used for
// another file: mappings of it may outlive every handle.
type hotCopy struct {
	node *fileNode
	file *os.File
	id   int32 // the kernel's name for file
	size int64
	refs int // one of heat.copy, one of each handle
}

// newHot returns nil where the kernel or the lack of privilege forbid passthrough.
func newHot(server *fuse.Server, budget int64, reads func() int64, log *slog.Logger) *hot {
	files := newCopyFiles(server)
	if err := files.probe(); err != nil {
		files.close()
		log.Debug("hot copies are off", "reason", err)
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	h := &hot{
		log: log, budget: budget, files: files, cancel: cancel,
		queue: make(chan *fileNode, 64), later: make(chan *fileNode, 64), reads: reads,
		done:   make(chan struct{}),
		copies: map[*hotCopy]struct{}{},
	}
	go h.run(ctx)
	return h
}

func (h *hot) stats() (files, bytes int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return int64(len(h.copies)), h.used
}

// verdict is what a file's Check says of kept bytes.
type verdict int

const (
	usable  verdict = iota
	changed         // never again
	unknown         // not this time: its caller no longer waited
)

// keeps tells whether there is a copy of a file, so that it must be checked before it is opened. It
// waits a little for what keeps this open from using one: a handle just closed, a copy being made.
func (h *hot) keeps(ctx context.Context, n *fileNode) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := &n.state.heat
	if t.copy == nil && t.filled == nil {
		return false
	}
	if t.asking > 0 && !t.busy {
		if t.left == nil {
			t.left = make(chan struct{})
		}
		h.await(ctx, t.left, maxRelease)
		t.busy = t.asking > 0
	}
	if t.filled != nil && t.asking == 0 && t.copying == 0 {
		h.await(ctx, t.filled, maxAwait)
	}
	return t.copy != nil
}

// await waits for a channel, without holding mu.
func (h *hot) await(ctx context.Context, c <-chan struct{}, most time.Duration) {
	h.mu.Unlock()
	defer h.mu.Lock()
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-c:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// open counts a new handle and returns the copy it must read, or nil when it must ask this process;
// soon tells then that there is one for later opens, or is about to be.
// A copy that is not usable is shown only where other open handles read it already, as the kernel
// then demands it; those who opened it before it changed have made it so.
func (h *hot) open(n *fileNode, v verdict) (c *hotCopy, soon bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := &n.state.heat
	h.opens++
	h.bring(t)
	t.count++
	if v == changed {
		t.barred = true
		h.drop(t)
	}
	if t.copying == 0 {
		if t.copy == nil || t.asking > 0 || v != usable {
			t.asking++
			h.consider(n)
			return nil, t.queued || t.copy != nil
		}
		t.shown = t.copy
	}
	t.copying++
	t.shown.refs++
	return t.shown, false
}

// release takes back what open counted. The kernel has left the copy by then.
func (h *hot) release(n *fileNode, c *hotCopy, read int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := &n.state.heat
	t.read += read
	if c == nil {
		if t.asking--; t.asking == 0 {
			t.busy = false
			if t.left != nil {
				close(t.left)
				t.left = nil
			}
		}
		h.consider(n)
		return
	}
	if t.copying--; t.copying == 0 {
		t.shown = nil
	}
	h.unref(c)
}

// forget drops the copy of a file that the kernel forgets, which it does when memory is short. A
// copy just being made stays until another takes its place.
func (h *hot) forget(n *fileNode) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n.state.later = false
	h.drop(&n.state.heat)
}

// bring halves the count for each age that has passed. The caller holds mu, here and below.
func (h *hot) bring(t *heat) {
	now := h.opens / hotAge
	t.count >>= min(now-t.age, 63)
	t.age = now
}

// consider has a file copied if that is worth it: it was read about half or more, and opened again. One
// that was opened once is copied when nobody reads, as long as there is room: it is likely to be
// read again.
func (h *hot) consider(n *fileNode) {
	t := &n.state.heat
	size := n.state.size
	if t.queued || t.barred || n.replaced() || t.copy != nil || t.read < size/2 {
		return
	}
	again := t.count > 1
	if t.later && !again {
		return
	}
	if _, ok := h.room(t, size+h.queued); !ok {
		return
	}
	queue := h.later
	if again {
		queue = h.queue
	}
	select {
	case queue <- n:
		if t.later = !again; again {
			t.queued = true
			h.queued += size
		}
	default: // the filler has enough to do; a later open asks again
	}
}

// takeLater moves a file that waited for nobody to read into the place of one that comes from the queue,
// unless it has gone there meanwhile.
func (h *hot) takeLater(n *fileNode) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := &n.state.heat
	if !t.later {
		return false
	}
	t.later, t.queued = false, true
	h.queued += n.state.size
	return true
}

func (h *hot) drop(t *heat) {
	if c := t.copy; c != nil {
		t.copy = nil
		h.unref(c)
	}
}

func (h *hot) unref(c *hotCopy) {
	if c.refs--; c.refs == 0 {
		h.files.remove(c.file, c.id)
		h.used -= c.size
		delete(h.copies, c)
	}
}

// room tells whether there is room for a copy, and which copies must make way for it: those that
// nobody reads, and that were opened less often of late, by two at least. So reading through more files
// than fit, once or again and again, leaves in place what is there.
func (h *hot) room(want *heat, size int64) (victims []*hotCopy, ok bool) {
	for c := range h.copies {
		t := &c.node.state.heat
		h.bring(t)
		if c.refs == 1 && t.copy == c && t.count+1 < want.count {
			victims = append(victims, c)
		}
	}
	slices.SortFunc(victims, func(a, b *hotCopy) int {
		return cmp.Compare(a.node.state.count, b.node.state.count)
	})
	room := h.budget - h.used
	for i, c := range victims {
		if room >= size {
			return victims[:i], true
		}
		room += c.size
	}
	return victims, room >= size
}

// admit takes a file from the queue, makes room for its copy and reserves it, if there is any and the
// file is in use.
func (h *hot) admit(n *fileNode, size int64, using bool) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.queued -= size
	want := &n.state.heat
	h.bring(want)
	victims, ok := h.room(want, size)
	if !ok || !using {
		want.queued = false
		return false
	}
	for _, c := range victims {
		h.drop(&c.node.state.heat)
	}
	h.used += size
	want.filled = make(chan struct{})
	return true
}
