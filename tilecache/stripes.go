package tilecache

import (
	"errors"
	"io/fs"
	"math"
	"math/bits"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/sys/unix"
)

// stripeBytes is the unit in which mappings are kept resident: as much as one entry of the second
// level of the page tables maps, which the kernel fills and empties fastest (30 to 50 µs for the
// one, 25 for the other).
const stripeBytes = 2 << 20

// stripes bounds what is resident of all mappings of a cache.
type stripes struct {
	limit     int64
	populates bool // the kernel has MADV_POPULATE_READ (5.14)

	// mu guards the fields below, those of mappings that say so, and every call that unmaps a
	// stripe: a mapping is closed under it before its memory is given back.
	mu    sync.Mutex
	queue *simplelru.LRU[stripe, struct{}] // resident ones, the oldest first to go
	bytes int64                            // of the queue
}

// stripe is one stripe of one mapping.
type stripe struct {
	mapping *mapping
	index   int
}

// mapping is the mapped bytes of an object. Its stripes begin at multiples of their size in memory,
// not in the file: the kernel maps pages around the one it is asked for, but never across these.
type mapping struct {
	bytes []byte // begin on a page
	lead  int    // bytes of stripe 0 that lie before the mapping

	resident bitmap // in the queue
	used     bitmap // referred to since it was queued or passed over

	again   bitmap      // unmapped, perhaps in use: to be unmapped again; guarded by stripes.mu
	isAgain atomic.Bool // whether there are any
	closed  bool        // guarded by stripes.mu
}

type bitmap []atomic.Uint64

func (b bitmap) has(i int) bool { return b[i>>6].Load()>>(i&63)&1 != 0 }
func (b bitmap) set(i int)      { b[i>>6].Or(1 << (i & 63)) }
func (b bitmap) clear(i int)    { b[i>>6].And(^(1 << (i & 63))) }

// take clears the bitmap and calls f for each bit that was set.
func (b bitmap) take(f func(i int)) {
	for w := range b {
		for word := b[w].Swap(0); word != 0; word &= word - 1 {
			f(w*64 + bits.TrailingZeros64(word))
		}
	}
}

func newStripes(limit int64) *stripes {
	// An advice about nothing succeeds where the kernel knows the advice, as madvise(2) has it.
	_, _, unknown := unix.Syscall(unix.SYS_MADVISE, 0, 0, unix.MADV_POPULATE_READ)
	return &stripes{
		limit:     limit,
		populates: unknown == 0,
		queue:     newLRU[stripe, struct{}](math.MaxInt),
	}
}

func newMapping(bytes []byte) *mapping {
	m := &mapping{bytes: bytes}
	if len(bytes) > 0 {
		m.lead = int(uintptr(unsafe.Pointer(unsafe.SliceData(bytes))) % stripeBytes)
	}
	words := ((m.lead+len(bytes)+stripeBytes-1)/stripeBytes + 63) / 64
	m.resident, m.used, m.again = make(bitmap, words), make(bitmap, words), make(bitmap, words)
	return m
}

// stripe is the bytes of a stripe.
func (m *mapping) stripe(i int) []byte {
	first := i*stripeBytes - m.lead
	return m.bytes[max(first, 0):min(first+stripeBytes, len(m.bytes))]
}

// use makes the stripes under n bytes at off resident. The bytes lie within the mapping, and the
// caller holds its object.
func (s *stripes) use(m *mapping, off, n int) error {
	if n == 0 {
		return nil
	}
	for i := (m.lead + off) / stripeBytes; i <= (m.lead+off+n-1)/stripeBytes; i++ {
		if !m.resident.has(i) {
			if err := s.admit(m, i); err != nil {
				return err
			}
		} else if !m.used.has(i) { // Look first: setting it takes the line from other cores.
			m.used.set(i)
		}
	}
	return nil
}

// admit maps a stripe and queues it. Several callers may do that for one stripe at once, which does
// no harm.
func (s *stripes) admit(m *mapping, i int) error {
	b := m.stripe(i)
	// Not under the lock: this may wait for the disk. The caller's hold keeps the mapping.
	err := s.populate(b)

	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case m.closed:
		return fs.ErrClosed // The caller holds nothing, and may not touch this memory again.
	case m.resident.has(i):
		return err
	case err != nil:
		unmap(b) // what was mapped before the failure
		return err
	}
	s.makeRoom(int64(len(b)))
	s.queue.Add(stripe{m, i}, struct{}{})
	s.bytes += int64(len(b))
	m.resident.set(i)
	return nil
}

// populate reads a stripe into the page cache and maps it. It gives no MADV_WILLNEED first: the kernel
// then reads into single pages instead of large folios, which took 1.5 times as long from disk, and
// mapping them 4 times as long ever after.
func (s *stripes) populate(b []byte) error {
	if !s.populates {
		return nil // Whoever writes the bytes maps them, and finds what cannot be read.
	}
	for {
		err := unix.Madvise(b, unix.MADV_POPULATE_READ)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
			continue
		case errors.Is(err, unix.EINVAL):
			return nil // This kind of mapping cannot be mapped ahead.
		}
		return err
	}
}

// makeRoom unmaps stripes until n bytes more fit, or none is left. The caller holds s.mu.
func (s *stripes) makeRoom(n int64) {
	for chances := s.queue.Len(); s.bytes+n > s.limit; {
		oldest, _, ok := s.queue.RemoveOldest()
		if !ok {
			return
		}
		m, i := oldest.mapping, oldest.index
		if chances > 0 && m.used.has(i) {
			chances--
			m.used.clear(i)
			s.queue.Add(oldest, struct{}{})
			continue
		}
		b := m.stripe(i)
		s.bytes -= int64(len(b))
		m.resident.clear(i)
		m.used.clear(i)
		unmap(b)
		m.again.set(i)
		m.isAgain.Store(true)
	}
}

// unmapAgain unmaps those stripes that were unmapped while the mapping was in use and that the
// kernel may have mapped again for it since. It is called when the mapping is no longer in use; if it
// is used again meanwhile that does no harm.
func (s *stripes) unmapAgain(m *mapping) {
	if !m.isAgain.Load() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.closed {
		return
	}
	m.isAgain.Store(false)
	m.again.take(func(i int) {
		if !m.resident.has(i) {
			unmap(m.stripe(i))
		}
	})
}

// forget takes the stripes of a mapping out of the queue, before its memory is given back.
func (s *stripes) forget(m *mapping) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m.closed = true
	m.resident.take(func(i int) {
		s.queue.Remove(stripe{m, i})
		s.bytes -= int64(len(m.stripe(i)))
	})
}

// unmap drops pages from the process, not from the page cache. What cannot be dropped stays until
// the mapping ends.
func unmap(b []byte) { _ = unix.Madvise(b, unix.MADV_DONTNEED) }

func (s *stripes) resident() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytes
}
