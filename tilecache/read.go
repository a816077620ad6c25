package tilecache

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync"

	"github.com/tesserafs/tesserafs/tilecache/disk"
	"github.com/tesserafs/tesserafs/tilecache/source"
)

// piece is what a read wants of one page.
type piece struct {
	number int64
	at     int64  // where in the page it begins
	p      []byte // what it fills; its capacity reaches to the end of the range at least
	disk   bool   // it is filled from there, without a page of memory
	page   *page  // which it holds; nil where it is missing
	fetch  *fetch // that it waits for; nil where the page is here
}

// batch is pieces that are read together: those of all ranges of a read, unless that is a large part
// of the memory there is.
type batch struct {
	pieces  []piece
	missing []int64
	extent  extent
	index   disk.Index // of the object, as of this read
}

// add makes pieces of a range, as long as there are no more than so many, and says how much of it fits.
func (b *batch) add(off int64, p []byte, most int) (bytes int64) {
	begin := off
	for len(p) > 0 && len(b.pieces) < most {
		at := off % pageSize
		n := min(int64(len(p)), pageSize-at)
		b.pieces = append(b.pieces, piece{number: off / pageSize, at: at, p: p[:n]})
		off, p = off+n, p[n:]
	}
	if off > begin {
		b.extent.add(begin, off)
	}
	return off - begin
}

// scattered says whether single values are wanted, rather than rows, however short: what lies between those is
// not likely to be wanted as well.
func (b *batch) scattered() bool {
	if b.extent.rows() {
		return false
	}
	var wanted int
	for _, p := range b.pieces {
		wanted += len(p.p)
	}
	return wanted < len(b.pieces)*pageSize/16
}

// batches are used again, so that reading what is in memory allocates nothing.
var batches = sync.Pool{New: func() any { return new(batch) }}

func (b *batch) reset() {
	clear(b.pieces) // They point to memory of callers.
	b.pieces, b.missing, b.extent = b.pieces[:0], b.missing[:0], extent{}
	b.index.Reset()
}

// readPages is ReadRanges of objects that are read by pages.
func (o *Object) readPages(ctx context.Context, ranges []source.Range) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("read %s: %w", o.name, err)
	}
	if o.state.changed.Load() {
		return o.changedError()
	}
	if err := o.damage(); err != nil {
		return err
	}
	var total int64
	for _, r := range ranges {
		if r.Off < 0 {
			return fmt.Errorf("read %s: offset %d: %w", o.name, r.Off, fs.ErrInvalid)
		}
		if size := o.state.info.Size; r.Off > size || int64(len(r.P)) > size-r.Off {
			return fmt.Errorf("read %s: %d bytes at %d of %d: %w", o.name, len(r.P), r.Off, size, io.ErrUnexpectedEOF)
		}
		total += int64(len(r.P))
	}
	b := batches.Get().(*batch)
	defer func() {
		b.reset()
		batches.Put(b)
	}()
	for _, r := range ranges {
		for off, p := r.Off, r.P; len(p) > 0; {
			n := b.add(off, p, o.cache.batchPages)
			if off, p = off+n, p[n:]; len(p) > 0 { // no more fits
				if err := o.readBatch(ctx, b); err != nil {
					return err
				}
				b.reset()
			}
		}
	}
	if len(b.pieces) > 0 {
		if err := o.readBatch(ctx, b); err != nil {
			return err
		}
	}
	o.cache.counts.read.Add(total)
	if v := o.cache.verifier; v != nil {
		v.saw(o, ranges...)
	}
	return nil
}

// readBatch fills the pieces of a batch.
func (o *Object) readBatch(ctx context.Context, b *batch) error {
	c, s := o.cache, o.cache.pages
	if err := s.room.Acquire(ctx, int64(len(b.pieces))); err != nil {
		return fmt.Errorf("read %s: %w", o.name, err)
	}
	places := int64(len(b.pieces)) // that no page was taken for yet
	if err := o.enter(); err != nil {
		s.room.Release(places)
		return err
	}
	defer c.reading.Done()
	s.mu.Lock()
	o.holdAll(b, &places)
	s.mu.Unlock()
	o.sort(b)
	var err error
	far := len(b.missing) > 0
	if far {
		err = o.askFor(b, &places)
	}
	if err == nil && !o.fromDisk(ctx, b) {
		// Some is not there after all, or there is no more time to look.
		if far, err = true, ctx.Err(); err != nil {
			err = fmt.Errorf("read %s: %w", o.name, err)
		} else {
			err = o.askFor(b, &places)
		}
	}
	s.room.Release(places)
	if err == nil {
		o.readAhead(b.extent, far)
		err = o.wait(ctx, b)
	}

	places = 0
	s.mu.Lock()
	for _, p := range b.pieces {
		if p.page != nil {
			places += s.letGo(p.page)
		}
	}
	s.mu.Unlock()
	s.room.Release(places)
	return err
}

// enter counts a call among those that Close waits for, until Cache.reading.Done.
func (o *Object) enter() error {
	s := o.cache.pages
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return closedError(o.name)
	}
	o.cache.reading.Add(1)
	return nil
}

// holdAll gives pieces the pages that they want and that there are. Each takes a place that nobody
// had taken. The caller holds pageStore.mu.
func (o *Object) holdAll(b *batch, places *int64) {
	for i := range b.pieces {
		p := &b.pieces[i]
		if p.page != nil || p.disk {
			continue
		}
		if held, fresh := o.cache.pages.hold(pageKey{o.state, p.number}); held != nil {
			p.page, p.fetch = held, held.fetch
			*places -= fresh
		}
	}
}

// sort counts what is here, and says of what is not whether it is on disk or to be asked for.
func (o *Object) sort(b *batch) {
	var here, waits int64
	for i := range b.pieces {
		switch p := &b.pieces[i]; {
		case p.page == nil && o.disk != nil && o.disk.Keeps(&b.index, p.number):
			p.disk = true
		case p.page == nil:
			b.missing = append(b.missing, p.number)
		case p.fetch == nil:
			here++
		default:
			waits++
		}
	}
	o.cache.counts.memory.Add(here)
	o.cache.counts.waits.Add(waits)
}

// fromDisk fills the pieces that are on disk from there, without pages of memory: the page cache of the system has them if
// somebody comes back. It is false where some were not right, which are missing from then on.
func (o *Object) fromDisk(ctx context.Context, b *batch) (all bool) {
	b.missing = b.missing[:0]
	var read int64
	for i, n := 0, 0; i < len(b.pieces); i += n {
		first := &b.pieces[i]
		n = 1
		if !first.disk {
			continue
		}
		wanted := len(first.p)
		for i+n < len(b.pieces) {
			next := &b.pieces[i+n]
			if !next.disk || !follows(&b.pieces[i+n-1], next) || wanted+len(next.p) > cap(first.p) {
				break
			}
			wanted += len(next.p)
			n++
		}
		got := o.disk.ReadPart(ctx, &b.index, first.number*pageSize+first.at, first.p[:wanted])
		for k := range n {
			p := &b.pieces[i+k]
			if got < len(p.p) {
				n = k + 1
				p.disk = false
				b.missing = append(b.missing, p.number)
				break
			}
			got -= len(p.p)
			read++
		}
	}
	o.cache.counts.disk.Add(read)
	return len(b.missing) == 0
}

// follows says whether a piece goes on where another ends, in the object and in memory.
func follows(before, p *piece) bool {
	n := len(before.p)
	return p.number*pageSize+p.at == before.number*pageSize+before.at+int64(n) && cap(before.p) > n && &before.p[:n+1][n] == &p.p[0]
}

// askFor has the missing pages of a batch asked for, and gives them to its pieces.
func (o *Object) askFor(b *batch, places *int64) error {
	slices.Sort(b.missing)
	b.missing = slices.Compact(b.missing)
	r, err := o.order(b.missing, b.extent, nil, b.scattered())
	if err != nil {
		return err
	}
	s := o.cache.pages
	*places += r.beside
	s.mu.Lock()
	// First those that came meanwhile, before claim takes their memory for others. Then all are here
	// or under way.
	o.holdAll(b, places)
	*places -= r.claim()
	o.holdAll(b, places)
	s.mu.Unlock()
	r.start()
	return nil
}

// wait copies what comes, until all has.
func (o *Object) wait(ctx context.Context, b *batch) error {
	for i := range b.pieces {
		p := &b.pieces[i]
		if p.disk {
			continue
		}
		if p.fetch != nil {
			select {
			case <-p.fetch.done:
			case <-ctx.Done():
				return fmt.Errorf("read %s: %w", o.name, ctx.Err())
			}
			if p.fetch.err != nil {
				return p.fetch.err
			}
		}
		copy(p.p, p.page.data[p.at:])
	}
	return nil
}
