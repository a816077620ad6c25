package tilecache

import (
	"cmp"
	"math"
	"slices"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/sync/semaphore"
	"golang.org/x/sys/unix"

	"github.com/tesserafs/tesserafs/tilecache/disk"
)

const (
	pageSize = disk.PageSize

	// pageOverhead is what a page of memory takes besides its bytes: itself, its entry in the LRU
	// and that one's in its map.
	pageOverhead = 256

	// blockPages is how many pages that lie side by side are cleared together for a strip of an object, so that
	// the next has them side by side again: 1 MiB, or a 64th of the memory.
	blockPages = 1 << 20 / pageSize
)

// pageKey is a page of one state of an object.
type pageKey struct {
	of     *state
	number int64
}

// page is a page of memory: what it holds, and for whom.
type page struct {
	slot int64  // which page of the memory it is
	data []byte // that memory; whoever holds the page may read it once it is fetched

	// Guarded by pageStore.mu.
	key    pageKey
	kept   bool    // it is what the key leads to
	strip  bool    // it was taken with those beside it, and leaves memory with them
	refs   int     // readers that hold it, and the fetch that brings it
	fetch  *fetch  // that brings it; nil when it is here
	window *window // that it was read ahead for, until it is used
}

// pageStore is the pages in memory, of all objects of a cache.
//
// Its memory is one mapping, not the garbage collector's: that would let the process grow to
// twice as much before it collects.
type pageStore struct {
	// room has a place for each page. Who holds pages has a place for each of them, so there is
	// always one left to take for another.
	room   *semaphore.Weighted
	count  int64
	block  int64 // pages that are cleared together
	memory []byte
	mapped bool  // it is no heap's
	ahead  int64 // how many pages may be read ahead and not used yet

	mu     sync.Mutex // guards what follows
	closed bool
	kept   *simplelru.LRU[pageKey, *page]
	made   []*page // by slot; up to count
	free   []*page // of those, the ones that hold nothing and are for single pages,
	strips []*page // and for strips: by slot, most of them side by side

	windows []*window // of read-ahead, the oldest first
	unused  int64     // pages of them that were not used yet
	used    int64     // pages read ahead that were used, ever
}

// newPageStore takes so many bytes, of which the system gives only what is used. Where the process
// may not have as many it makes do with less.
func newPageStore(bytes int64) *pageStore {
	s := &pageStore{kept: newLRU[pageKey, *page](math.MaxInt)}
	for s.count = bytes / (pageSize + pageOverhead); ; s.count /= 2 {
		var err error
		s.memory, err = unix.Mmap(-1, 0, int(s.count*pageSize), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE|unix.MAP_NORESERVE)
		if s.mapped = err == nil; s.mapped {
			break
		}
		if s.count*pageSize < 2*leastMemory {
			s.memory = make([]byte, s.count*pageSize)
			break
		}
	}
	s.room = semaphore.NewWeighted(s.count)
	s.block = max(1, min(blockPages, s.count/64))
	s.ahead = s.count / 2
	return s
}

// hold gives the page of a key to a reader; nil where there is none. fresh is 1 where nobody held it
// before, so that one of the caller's places is now taken, and 0 otherwise. The caller holds s.mu.
func (s *pageStore) hold(k pageKey) (p *page, fresh int64) {
	p, ok := s.kept.Get(k)
	if !ok {
		return nil, 0
	}
	if p.window != nil {
		s.used++
		s.leaveWindow(p)
	}
	if p.refs == 0 {
		fresh = 1
	}
	p.refs++
	return p, fresh
}

// take gives a key a page, which the caller holds, in one of its places. Those of a strip, taken one after another,
// lie side by side as far as they can. The caller holds s.mu.
func (s *pageStore) take(k pageKey, strip bool) *page {
	from, other := &s.free, &s.strips
	if strip {
		from, other = other, from
	}
	if len(*from) == 0 {
		s.clear(strip)
	}
	if len(*from) == 0 {
		from = other // Places say that there is one.
	}
	p := (*from)[0]
	*from = (*from)[1:]
	p.key, p.kept, p.refs, p.strip = k, true, 1, strip
	s.kept.Add(k, p)
	return p
}

// clear has pages hold nothing, for a strip or for single pages, of which none are left: new ones, or what was not used for
// the longest. Pages of strips go by blocks, though some of one may have been used since, others one by one. The
// caller holds s.mu.
func (s *pageStore) clear(strip bool) {
	if n := min(s.block, s.count-int64(len(s.made))); n > 0 {
		to := &s.free
		if strip {
			to = &s.strips
		}
		*to = make([]*page, 0, n)
		for range n {
			slot := int64(len(s.made))
			p := &page{slot: slot, data: s.memory[slot*pageSize:][:pageSize]}
			s.made, *to = append(s.made, p), append(*to, p)
		}
		return
	}
	for int64(len(s.free)) < s.block {
		p := s.oldest()
		if p == nil {
			return
		}
		if !p.strip {
			s.forget(p)
			if !strip {
				return
			}
			continue
		}
		before := len(s.free)
		first := p.slot / s.block * s.block
		for _, q := range s.made[first:min(first+s.block, s.count)] {
			if q.kept && q.strip && q.refs == 0 {
				s.forget(q)
			}
		}
		if strip {
			s.strips = append(s.strips, s.free[before:]...)
			s.free = s.free[:before]
		}
		return
	}
	slices.SortFunc(s.free, func(a, b *page) int { return cmp.Compare(a.slot, b.slot) })
	s.strips, s.free = s.free, nil
}

// oldest is the page that was not used for the longest, of those that nobody holds; nil where there is none. The
// caller holds s.mu.
func (s *pageStore) oldest() *page {
	for range s.kept.Len() {
		k, p, _ := s.kept.GetOldest()
		if p.refs == 0 {
			return p
		}
		s.kept.Get(k) // It is in use.
	}
	return nil
}

// forget makes a key lead to nothing; its page is free once nobody holds it. The caller holds s.mu.
func (s *pageStore) forget(p *page) {
	s.kept.Remove(p.key)
	s.leaveWindow(p)
	p.kept, p.key = false, pageKey{}
	if p.refs == 0 {
		s.free = append(s.free, p)
	}
}

// letGo ends one hold of a page. It returns 1 where that was the last, so that a place is to be given
// back, and 0 otherwise. The caller holds s.mu.
func (s *pageStore) letGo(p *page) (places int64) {
	if p.refs--; p.refs > 0 {
		return 0
	}
	if !p.kept {
		s.free = append(s.free, p)
	}
	return 1
}

// holdMore holds pages once more that are held already, which takes no place.
func (s *pageStore) holdMore(parts []part) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range parts {
		p.refs++
	}
}

// letGoAll ends one hold of each of some pages, and gives back the places of those that nobody holds any more.
func (s *pageStore) letGoAll(parts []part) {
	var places int64
	s.mu.Lock()
	for _, p := range parts {
		places += s.letGo(p.page)
	}
	s.mu.Unlock()
	s.room.Release(places)
}

// dropState forgets the pages of an object that changed.
func (s *pageStore) dropState(of *state) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.kept.Keys() {
		if k.of != of {
			continue
		}
		if p, ok := s.kept.Peek(k); ok {
			s.forget(p)
		}
	}
}

// end has later reads fail.
func (s *pageStore) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
}

// close gives the memory back. Nobody holds a page any more, and nobody may afterwards.
func (s *pageStore) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept.Purge()
	s.made, s.free, s.strips, s.windows = nil, nil, nil, nil
	if s.mapped {
		_ = unix.Munmap(s.memory) // It has no error for what Mmap gave.
	}
	s.memory, s.mapped = nil, false
}
