package tilecache

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"hash/crc64"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/tesserafs/tesserafs/tilecache/source"
)

// ErrDamaged: the bytes of an object are not those of its checksum.
var ErrDamaged = errors.New("its bytes are not those that were published")

// CRC64NVME is the table of CRC-64/NVME, reflected as hash/crc64 has them (NVM Express NVM Command Set
// specification 1.0, section 5.2.1.3.4). Of "123456789" the checksum is ae8b14860a799888.
var CRC64NVME = crc64.MakeTable(0x9a6c9329ac4bc9b5)

// Sums are checksums of an object, as files; the zero Sums are none.
type Sums struct {
	CRC64NVME *uint64 // the source's
	SHA256    []byte  // a manifest's
}

// Verification has each state of an object held against its checksums, once, when it has been read: three
// quarters of its pages at least, as much of what a tile has need not be wanted by anybody.
type Verification struct {
	// Sums says which checksums there are of objects: one for each name. Where it fails, they are
	// verified when they have been read again.
	Sums func(ctx context.Context, names []string) ([]Sums, error)
	Log  *slog.Logger // nil for none
}

const (
	// trackedStates is of how many objects it is known which pages were read; of others it is
	// forgotten. They take 20 MB at most, those of usual tiles 4.
	trackedStates = 8192
	// mostVerified is the size of the largest object that is verified, several times that of the largest tile.
	mostVerified = 1 << 30
	// waitingStates is how many objects may wait to be verified, and askedTogether of how many the
	// checksums are asked for at once.
	waitingStates = 16_384
	askedTogether = 32

	verifyStrip = 1 << 20 // bytes that are summed at once
	mostRest    = 50 * time.Millisecond
)

// verifier verifies the objects of a cache, one at a time, in one goroutine that rests as long as it works.
//
// What is summed is what the cache has of the object: pages in memory, then those on disk. Only what is in
// neither is fetched, and goes to no reader's pages.
type verifier struct {
	cache *Cache
	cfg   Verification
	log   *slog.Logger
	wake  chan struct{} // that there is something in the queue
	ended chan struct{}

	mu    sync.Mutex // guards what follows
	read  *simplelru.LRU[*state, *coverage]
	queue []verification
	tell  func(object string, err error) // nil: nobody
}

// verification is a state of an object that was read whole.
type verification struct {
	name  string
	state *state
}

// coverage is which pages of an object were read.
type coverage struct {
	pages []uint64 // a bit each
	left  int64
}

func newVerifier(c *Cache, cfg Verification) *verifier {
	v := &verifier{cache: c, cfg: cfg, log: cfg.Log, wake: make(chan struct{}, 1), ended: make(chan struct{}),
		read: newLRU[*state, *coverage](trackedStates)}
	if v.log == nil {
		v.log = slog.New(slog.DiscardHandler)
	}
	go v.run(c.ctx)
	return v
}

// OnDamage has objects told that are found damaged from now on, with errors that are ErrDamaged, instead of to
// whoever was told before. Readers get the same errors.
func (c *Cache) OnDamage(tell func(object string, err error)) {
	if v := c.verifier; v != nil {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.tell = tell
	}
}

// mayBeLeft is how many pages of an object need not have been read for it to count as read whole: a quarter. Who
// reads all there is to see of a tile leaves out the pixels that have no data and those beneath the next tile.
func mayBeLeft(size int64) int64 { return pagesIn(size) / 4 }

// saw notes ranges of an object that were read. A page counts of which a byte was read.
func (v *verifier) saw(o *Object, ranges ...source.Range) {
	st := o.state
	if st.settled.Load() {
		return
	}
	if st.info.Size > mostVerified {
		st.settled.Store(true)
		v.cache.counts.unsummed.Add(1)
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	c, ok := v.read.Get(st)
	if !ok {
		n := pagesIn(st.info.Size)
		c = &coverage{pages: make([]uint64, (n+63)/64), left: n}
		v.read.Add(st, c)
	}
	for _, r := range ranges {
		for n := r.Off / pageSize; n < pagesIn(r.Off+int64(len(r.P))) && len(r.P) > 0; n++ {
			if bit := uint64(1) << (n % 64); c.pages[n/64]&bit == 0 {
				c.pages[n/64] |= bit
				c.left--
			}
		}
	}
	if c.left > mayBeLeft(st.info.Size) || st.settled.Load() || len(v.queue) == waitingStates {
		return
	}
	st.settled.Store(true)
	v.read.Remove(st)
	v.queue = append(v.queue, verification{o.name, st})
	select {
	case v.wake <- struct{}{}:
	default:
	}
}

// run verifies what waits, until ctx ends.
func (v *verifier) run(ctx context.Context) {
	defer close(v.ended)
	for {
		select {
		case <-ctx.Done():
			return
		case <-v.wake:
		}
		for ctx.Err() == nil {
			v.mu.Lock()
			n := min(len(v.queue), askedTogether)
			batch := slices.Clone(v.queue[:n])
			if v.queue = v.queue[n:]; len(v.queue) == 0 {
				v.queue = nil
			}
			v.mu.Unlock()
			if n == 0 {
				break
			}
			v.batch(ctx, batch)
		}
	}
}

// batch verifies some objects. Those that cannot be are to be read again before the next try.
func (v *verifier) batch(ctx context.Context, batch []verification) {
	names := make([]string, len(batch))
	for i, w := range batch {
		names[i] = w.name
	}
	sums, err := v.cfg.Sums(ctx, names)
	for i, w := range batch {
		of := err
		if of == nil {
			of = v.verify(ctx, w, sums[i])
		}
		if of != nil && !errors.Is(of, source.ErrChanged) {
			w.state.settled.Store(false)
		}
		if of != nil && ctx.Err() == nil {
			v.log.Warn("an object that was read cannot be verified now", "object", w.name, "error", of)
		}
	}
}

// verify holds a state of an object against its checksums. The error is why that could not be.
func (v *verifier) verify(ctx context.Context, w verification, sums Sums) (err error) {
	defer func() { // as of a source; it would end the process
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	counts := &v.cache.counts
	if sums.CRC64NVME == nil && sums.SHA256 == nil {
		counts.unsummed.Add(1)
		return nil
	}
	o, err := v.cache.Open(ctx, w.name)
	if err != nil {
		return err
	}
	defer o.Release()
	if !same(o.state.info, w.state.info) {
		return source.ErrChanged
	}
	crc, sha := crc64.New(CRC64NVME), sha256.New()
	var hashes []hash.Hash
	if sums.CRC64NVME != nil {
		hashes = append(hashes, crc)
	}
	if sums.SHA256 != nil {
		hashes = append(hashes, sha)
	}
	if err := o.sum(ctx, hashes); err != nil {
		return err
	}
	var wrong error
	if got := crc.Sum64(); sums.CRC64NVME != nil && got != *sums.CRC64NVME {
		wrong = fmt.Errorf("%w: its CRC64NVME is %016x, the source says %016x; copy it to the source again", ErrDamaged, got, *sums.CRC64NVME)
	} else if got := sha.Sum(nil); sums.SHA256 != nil && string(got) != string(sums.SHA256) {
		wrong = fmt.Errorf("%w: its SHA-256 is %x, the manifest says %x; copy it again from where it was published", ErrDamaged, got, sums.SHA256)
	}
	if wrong == nil {
		o.state.settled.Store(true)
		counts.verified.Add(1)
		return nil
	}
	v.damaged(o, wrong)
	return nil
}

// damaged has all reads of this state of an object fail from now on.
func (v *verifier) damaged(o *Object, wrong error) {
	o.state.settled.Store(true)
	o.state.damaged.Store(&wrong)
	if o.cache.pages != nil {
		o.cache.pages.dropState(o.state)
	}
	if o.disk != nil {
		o.disk.Discard()
	}
	o.cache.counts.mismatched.Add(1)
	v.mu.Lock()
	tell := v.tell
	v.mu.Unlock()
	if tell == nil {
		v.log.Error("an object is damaged: it is not read any more", "object", o.name, "error", wrong)
		return
	}
	tell(o.name, wrong)
}

// sum gives all bytes of an object to hashes.
func (o *Object) sum(ctx context.Context, hashes []hash.Hash) error {
	strip := make([]byte, min(verifyStrip, o.state.info.Size))
	for off := int64(0); off < o.state.info.Size; {
		began := time.Now()
		p := strip[:min(int64(len(strip)), o.state.info.Size-off)]
		if err := o.gather(ctx, p, off); err != nil {
			return o.noted(err)
		}
		for _, h := range hashes {
			h.Write(p) // of hashes it never fails
		}
		off += int64(len(p))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(min(time.Since(began), mostRest)):
		}
	}
	return o.Check(ctx)
}

// gather fills p with whole pages, from where they are: memory, disk, or the source. It leaves no trace in
// memory.
func (o *Object) gather(ctx context.Context, p []byte, off int64) error {
	c := o.cache
	if c.pages == nil {
		n, err := o.src.Load().ReadAt(ctx, p, off)
		if err == nil && n != len(p) {
			err = o.shortError(n, len(p), off)
		}
		return err
	}
	var missing []int64
	first := off / pageSize
	for n := first; n < first+pagesIn(int64(len(p))); n++ {
		if !c.pages.peek(pageKey{o.state, n}, p[(n-first)*pageSize:]) {
			missing = append(missing, n)
		}
	}
	for _, r := range runsOf(missing) {
		q := p[(r.first-first)*pageSize:][:o.bytesOf(r)]
		kept := 0
		if o.disk != nil {
			kept = o.disk.Read(ctx, r.first, q)
		}
		if kept == len(q) {
			continue
		}
		whole := int64(kept) / pageSize
		if c.offline {
			return o.offlineError(r.first + whole)
		}
		if err := o.fill(ctx, q[whole*pageSize:], (r.first+whole)*pageSize); err != nil {
			return err
		}
	}
	return nil
}

// peek copies a page that is in memory, and does not count as its use.
func (s *pageStore) peek(k pageKey, to []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.kept.Peek(k)
	if !ok || p.fetch != nil {
		return false
	}
	copy(to, p.data)
	return true
}

// damage is why nothing of an object is read any more; nil where it is.
func (o *Object) damage() error {
	if d := o.state.damaged.Load(); d != nil {
		return *d
	}
	return nil
}
