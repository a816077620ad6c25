package disk

import (
	"context"

	"golang.org/x/sys/unix"
)

// lookedAt is how many pages' entries one pread gets of an index: a block of the filesystem.
const lookedAt = 4096 / entrySize

// Index is what the index of an object's file said of some pages when it was last looked at, and the last page of which
// a part was read. It saves looking at it once more for each page. The zero Index has not been looked at; one is used by one
// goroutine at a time, and for another object after Reset.
type Index struct {
	file    *file
	first   int64
	entries []byte // nil: not looked at yet
	block   [lookedAt * entrySize]byte

	held int64 // the page that is in page, and was right, if that is not empty
	page []byte
	room [PageSize]byte
}

// Reset has the index looked at anew.
func (x *Index) Reset() { x.file, x.first, x.entries, x.page = nil, 0, nil, nil }

// entry is that of a page; 0 where it is not kept, or beyond what was looked at.
func (x *Index) entry(page int64) uint64 {
	if i := page - x.first; i >= 0 && i < int64(len(x.entries)/entrySize) {
		return entryAt(x.entries, int(i))
	}
	return 0
}

// Keeps says whether a page seems to be kept, as Has does. It costs a system call for the first of 512 pages that
// follow each other.
func (o *Object) Keeps(x *Index, page int64) bool {
	if page < 0 || page >= pagesIn(o.size) {
		return false
	}
	if i := page - x.first; x.entries == nil || i < 0 || i >= lookedAt {
		x.file, x.first, x.entries = nil, page, x.block[:0]
		n := 0
		if x.file = o.open(); x.file != nil {
			n, _ = x.file.ReadAt(x.block[:], entryOffset(page))
		}
		if x.file != nil && n == 0 {
			// Of a file that was evicted, another may have taken the place.
			if x.file = o.reopen(x.file); x.file != nil {
				n, _ = x.file.ReadAt(x.block[:], entryOffset(page))
			}
		}
		x.entries = x.block[:n/entrySize*entrySize]
	}
	return x.entry(page) != 0
}

// ReadPart fills p from a byte of the object on, as far as its pages are kept and right, and returns how many leading
// bytes of p that are. Parts of pages are read whole, beside p. What else is in p afterwards has no meaning.
func (o *Object) ReadPart(ctx context.Context, x *Index, off int64, p []byte) (n int) {
	var pages int64
	for n < len(p) && ctx.Err() == nil {
		at := off + int64(n)
		page := at / PageSize
		if !o.Keeps(x, page) {
			break
		}
		rest := p[n:]
		if whole := o.whole(page, rest); at%PageSize == 0 && len(whole) > 0 {
			run := min(len(whole), readPages*PageSize)
			some := 1
			for some < int(pagesIn(int64(run))) && x.entry(page+int64(some)) != 0 {
				some++
			}
			run = min(run, some*PageSize)
			right := o.readRun(x.file, page, whole[:run], x.entries[(page-x.first)*entrySize:])
			pages += int64(right)
			n += min(run, right*PageSize)
			if right < some {
				break
			}
			continue
		}
		// Of rows that follow each other one ends in the page in which the next begins.
		if len(x.page) == 0 || x.held != page {
			x.page = x.room[:min(PageSize, o.size-page*PageSize)]
			if o.readRun(x.file, page, x.page, x.entries[(page-x.first)*entrySize:]) == 0 {
				x.page = nil
				break
			}
			x.held = page
			pages++
		}
		if at%PageSize >= int64(len(x.page)) {
			break
		}
		n += copy(rest, x.page[at%PageSize:])
	}
	c := o.cache
	if n < len(p) && ctx.Err() == nil {
		c.misses.Add(1)
	}
	if n > 0 {
		c.hits.Add(pages)
		c.bytesRead.Add(int64(n))
		o.touch()
	}
	return n
}

// WillNeed has the system begin to read pages from the disk, if its page cache does not have them. It does not wait.
func (o *Object) WillNeed(first, end int64) {
	f := o.open()
	if f == nil {
		return
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return
	}
	// Where that fails they are read when they are wanted.
	_ = raw.Control(func(fd uintptr) {
		_ = unix.Fadvise(int(fd), pagesOffset(o.size)+first*PageSize, (end-first)*PageSize, unix.FADV_WILLNEED)
	})
}
