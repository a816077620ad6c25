package fusefs

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/tesserafs/tesserafs/vfs"
)

const (
	// directFrom is the size from which files are read around the page cache.
	directFrom = 1 << 20

	// blockSize is st_blksize, what programs read at once that have no wish of their own.
	blockSize = 128 << 10

	// worthKeeping is how much of a file is read once more around the page cache before it is read through it.
	worthKeeping = 1 << 20
)

// lseek(2)
const (
	seekData = 3
	seekHole = 4
)

// fileState is what is remembered of a file while the kernel knows it.
type fileState struct {
	answered atomic.Int64 // bytes this process gave to handles now closed
	again    atomic.Int64 // bytes it gave once more
	given    givenBlocks  // where requests began that it answered
	checked  atomic.Int64 // nanoseconds from epoch to when the file was last found to be as it was

	size int64 // when it was looked up; of a file that may become hot it does not change
	heat       // of such a file; guarded by hot.mu

	mu       sync.Mutex // guards what follows, of volatile files
	open     int        // how often it is open
	snapshot int64      // size of the newest snapshot
}

// attr is the tree's Attr, except that an open volatile file has the size of its newest snapshot:
// the kernel does not say through which open file a size is asked for.
func (n *fileNode) attr() vfs.Attr {
	a := n.file.Attr()
	if !a.Volatile || n.state == nil {
		return a
	}
	n.state.mu.Lock()
	defer n.state.mu.Unlock()
	if n.state.open > 0 {
		a.Size, a.Stored = n.state.snapshot, n.state.snapshot
	}
	return a
}

// Open never fails for what the file is made of. A file of a tree that nothing uses any more is opened by
// those who had found it before another tree took its place: ESTALE makes the kernel look its path up again.
func (n *fileNode) Open(ctx context.Context, flags uint32) (gofs.FileHandle, uint32, syscall.Errno) {
	if flags&syscall.O_ACCMODE != syscall.O_RDONLY {
		return nil, 0, syscall.EROFS
	}
	if !n.g.users.enter() {
		return nil, 0, syscall.ESTALE
	}
	var h *handle
	defer func() {
		if h == nil { // a panic, which goes on to go-fuse
			n.g.users.leave()
		}
	}()
	h, how := n.open(ctx)
	h.direct = how == fuse.FOPEN_DIRECT_IO && !h.volatile
	n.s.open.Add(1)
	return h, fuse.FOPEN_NOFLUSH | how, 0
}

// open makes a handle, and says how the kernel is to read it. The flags are explained in the package doc.
func (n *fileNode) open(ctx context.Context) (*handle, uint32) {
	a := n.file.Attr()
	h := &handle{n: n, size: a.Size}
	switch {
	case a.Volatile:
		h.snapshot(ctx)
		return h, fuse.FOPEN_DIRECT_IO
	case a.Size < directFrom:
		if n.s.check(ctx, n.file) != nil {
			return h, 0
		}
		return h, fuse.FOPEN_KEEP_CACHE
	case n.s.hot == nil:
		return h, n.bigFile(ctx)
	}
	verdict := usable
	if n.s.hot.keeps(ctx, n) {
		if err := n.s.check(ctx, n.file); err != nil {
			verdict = changed
			if ctx.Err() != nil {
				verdict = unknown
			}
		}
	}
	h.counted = true // from here on nothing may fail
	var soon bool
	if h.copy, soon = n.s.hot.open(n, verdict); h.copy != nil {
		n.s.hotOpens.Add(1)
		n.s.raw.backing.Store(ctx.Done(), h.copy.id)
		return h, fuse.FOPEN_PASSTHROUGH
	}
	if soon || verdict != usable { // what the kernel kept would only be beside a copy, or is as unusable as that
		return h, fuse.FOPEN_DIRECT_IO
	}
	return h, n.bigFile(ctx)
}

// bigFile says how a file of directFrom and more is opened that gets no hot copy: around the page
// cache, which is the quickest way to read it once; through it, so that the kernel keeps what it has
// room for, when it was read about half or more before, or parts of it again: a shard of 2 GiB, of which
// the same windows are read each day. Bytes that may be stale are read around it.
func (n *fileNode) bigFile(ctx context.Context) uint32 {
	st := n.state
	if st.answered.Load() < n.file.Attr().Size/2 && st.again.Load() < worthKeeping {
		return fuse.FOPEN_DIRECT_IO
	}
	now := int64(time.Since(epoch))
	if last := st.checked.Load(); last == 0 || now-last > int64(maxUnlooked) {
		if n.s.check(ctx, n.file) != nil {
			return fuse.FOPEN_DIRECT_IO
		}
		st.checked.Store(now)
	}
	return fuse.FOPEN_KEEP_CACHE
}

// epoch is what times are counted from, so that they fit an atomic and never go back.
var epoch = time.Now()

// givenBlocks are the blocks of a file in which requests began that were answered around the page cache, a
// bit for each. It takes 2 KiB for a shard of 2 GiB, from its first such request on.
type givenBlocks struct {
	once sync.Once
	bits []atomic.Uint64
}

// add tells whether a request began in the block of an offset before.
func (g *givenBlocks) add(off, size int64) bool {
	g.once.Do(func() { g.bits = make([]atomic.Uint64, (size+blockSize*64-1)/(blockSize*64)) })
	bit := uint64(1) << (off / blockSize % 64)
	return g.bits[off/(blockSize*64)].Or(bit)&bit != 0
}

// check asks a file that can tell whether kept bytes are still its own. A panic is an answer too, as
// an open must not fail.
func (s *Server) check(ctx context.Context, file vfs.File) (err error) {
	c, ok := file.(vfs.Checker)
	if !ok {
		return nil
	}
	defer func() {
		if v := recover(); v != nil {
			s.logPanic(v)
			err = errors.New("panic")
		}
	}()
	return c.Check(ctx)
}

// Lseek finds data and holes; ENXIO at and after the end, and where no data follows.
func (n *fileNode) Lseek(_ context.Context, _ gofs.FileHandle, off uint64, whence uint32) (uint64, syscall.Errno) {
	size := n.attr().Size
	if off >= uint64(size) {
		return 0, syscall.ENXIO
	}
	sparse, ok := n.file.(vfs.Sparse)
	switch {
	case whence == seekData && ok:
		next := sparse.NextData(int64(off))
		if next >= size {
			return 0, syscall.ENXIO
		}
		return uint64(next), 0
	case whence == seekHole && ok:
		return uint64(sparse.NextHole(int64(off))), 0
	case whence == seekData:
		return off, 0
	case whence == seekHole:
		return uint64(size), 0
	}
	return 0, syscall.EINVAL
}

// OnForget lets go of what was kept for a file that the kernel no longer remembers.
func (n *fileNode) OnForget() {
	if n.s.hot != nil && n.state != nil {
		n.s.hot.forget(n)
	}
}

// handle is an open file.
type handle struct {
	n    *fileNode
	size int64
	read atomic.Int64 // bytes answered

	direct bool // the kernel asks for what is read, and keeps none of it
	stream stream

	counted bool     // by hot.open
	copy    *hotCopy // what the kernel reads instead; nil: nothing

	content  []byte // of a volatile file
	snapErr  error  // of reading that
	volatile bool
}

var (
	_ gofs.FileReader   = (*handle)(nil)
	_ gofs.FileReleaser = (*handle)(nil)
)

// snapshot reads a volatile file as it is now.
func (h *handle) snapshot(ctx context.Context) {
	h.volatile = true
	defer func() {
		if v := recover(); v != nil {
			h.n.s.logPanic(v)
			h.snapErr = errors.New("panic")
		}
		h.size = int64(len(h.content))
		if st := h.n.state; st != nil {
			st.mu.Lock()
			st.open++
			st.snapshot = h.size
			st.mu.Unlock()
		}
	}()
	h.content, h.snapErr = vfs.Snapshot(ctx, h.n.file)
}

func (h *handle) Release(context.Context) syscall.Errno {
	h.stream.drop(nil)
	h.n.s.open.Add(-1)
	if h.n.state != nil {
		h.n.state.answered.Add(h.read.Load())
	}
	if st := h.n.state; h.volatile && st != nil {
		st.mu.Lock()
		st.open--
		st.mu.Unlock()
	}
	if h.counted {
		h.n.s.hot.release(h.n, h.copy, h.read.Load())
	}
	h.n.g.users.leave()
	return 0
}

// Read answers from the tree into dest, which is in use until the reply is written.
func (h *handle) Read(ctx context.Context, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	s := h.n.s
	s.reads.Add(1)
	answered := false
	defer func() {
		if !answered { // a panic, which goes on to go-fuse
			s.failed.Add(1)
		}
	}()
	result, err := h.answer(ctx, dest, off)
	answered = true
	if err != nil {
		errno := readErrno(ctx, err)
		if errno != syscall.EINTR {
			s.failed.Add(1)
		}
		return nil, errno
	}
	n := int64(result.Size())
	s.bytes.Add(n)
	h.read.Add(n)
	if h.direct && n > 0 && h.n.state.given.add(off, h.size) {
		h.n.state.again.Add(n)
	}
	return result, 0
}

func (h *handle) answer(ctx context.Context, dest []byte, off int64) (fuse.ReadResult, error) {
	if h.snapErr != nil {
		return nil, h.snapErr
	}
	if off >= h.size {
		return fuse.ReadResultData(nil), nil
	}
	dest = dest[:min(int64(len(dest)), h.size-off)]
	if h.volatile {
		return fuse.ReadResultData(dest[:copy(dest, h.content[off:])]), nil
	}
	if h.direct {
		if reply, err := h.claim(ctx, off, len(dest)); reply != nil || err != nil {
			if err == nil {
				h.goOn(off, len(dest))
			}
			return reply, err
		}
	}
	n, err := h.n.s.ahead.read(ctx, h, dest, off)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if h.direct {
		h.goOn(off, len(dest))
	}
	if n != len(dest) {
		// The kernel would take a short answer for the end of the file, and its reader too.
		return nil, h.fault("the tree answered a read with too few bytes", off, n, len(dest))
	}
	return fuse.ReadResultData(dest), nil
}

// fault reports what a tree must not do.
func (h *handle) fault(what string, off int64, got, want int) error {
	h.n.s.log.Error(what, "path", h.n.Path(nil), "offset", off, "got", got, "want", want)
	return errors.New(what)
}
