package faults_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	readers  = 8
	mostRead = 1 << 20
	noise    = 0xA5 // in a buffer before it is read into
)

// clients read a mount, at random places, and compare.
type clients struct {
	t       *testing.T
	s       *stack
	within  time.Duration
	allowed []unix.Errno

	reference *reference

	mu sync.Mutex // guards tl
	tl tally
}

// tally is what came of reads.
type tally struct {
	right, failed int
	bytes         int64
	errors        map[unix.Errno]int
	slowest       time.Duration
	wrong         int
}

func (tl tally) String() string {
	text := fmt.Sprintf("%d reads right (%d MB), the slowest in %v", tl.right, tl.bytes>>20, tl.slowest.Round(time.Millisecond))
	for errno, n := range tl.errors {
		text += fmt.Sprintf(", %d failed with %s", n, unix.ErrnoName(errno))
	}
	return text
}

func (s *stack) clients(t *testing.T, within time.Duration, allowed ...unix.Errno) *clients {
	c := &clients{t: t, s: s, within: within * slower, allowed: allowed, reference: s.w.reference}
	c.tl.errors = map[unix.Errno]int{}
	return c
}

// read reads for some time. It returns when all have read to the end of what they began.
func (c *clients) read(d time.Duration) {
	c.t.Helper()
	stop := c.start()
	time.Sleep(d)
	stop()
}

// start reads until stop is called, which waits for those that still do.
func (c *clients) start() (stop func()) {
	seed := rand.Uint64()
	done := make(chan struct{})
	var running sync.WaitGroup
	for i := range readers {
		running.Go(func() {
			r := newReader(c, seed, uint64(i))
			for {
				select {
				case <-done:
					return
				default:
					r.file(done)
				}
			}
		})
	}
	return func() {
		c.t.Helper()
		close(done)
		ended := make(chan struct{})
		go func() { running.Wait(); close(ended) }()
		select {
		case <-ended:
		case <-time.After(c.within + 10*time.Second):
			stacks := make([]byte, 1<<20)
			c.t.Errorf("reads do not end: the mount is aborted\n%s", stacks[:runtime.Stack(stacks, true)])
			c.t.Log(c.s.server.Unmount())
			<-ended
		}
		c.t.Logf("seed %#x: %v", seed, c.tally())
	}
}

func (c *clients) tally() tally {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tl
}

// reader is one client.
type reader struct {
	*clients
	rng       *rand.Rand
	got, want []byte
}

func newReader(c *clients, seed, number uint64) *reader {
	return &reader{c, rand.New(rand.NewPCG(seed, number)), make([]byte, mostRead), make([]byte, mostRead)}
}

// file opens some file and reads some of it: here and there, or one piece after another.
func (r *reader) file(done <-chan struct{}) {
	name := r.reference.names[r.rng.IntN(len(r.reference.names))]
	books := r.reference.layouts[name]
	b := books[r.rng.IntN(len(books))]
	f, err := os.Open(filepath.Join(r.s.dir, b.path))
	if err != nil {
		r.complain("open: %v", err)
		return
	}
	defer f.Close()
	if r.rng.IntN(4) > 0 {
		forget(f)
	}
	inSequence := r.rng.IntN(3) == 0
	var off int64
	var n int
	for range 1 + r.rng.IntN(6) {
		if !inSequence || n == 0 || off+int64(n) >= b.size {
			off, n = b.somewhere(r.t, r.rng)
		} else {
			off += int64(n)
			n = int(min(int64(n), b.size-off))
		}
		r.one(f, b, off, n)
		select {
		case <-done:
			return
		default:
		}
	}
}

// somewhere is a place in a file, more often than not one that holds data.
func (b book) somewhere(t *testing.T, rng *rand.Rand) (off int64, n int) {
	var sample [64]byte
	for range 4 {
		off = rng.Int64N(b.size)
		s := sample[:min(64, b.size-off)]
		b.want(t, s, off)
		if len(s) > 4 && !bytes.Equal(s[4:], s[:len(s)-4]) { // Fill repeats itself.
			break
		}
	}
	// As many short reads as long ones.
	n = 1 << rng.IntN(21)
	n = n/2 + 1 + rng.IntN(n/2+1)
	return off, int(min(int64(n), mostRead, b.size-off))
}

// one is a read, and what is said of it.
func (r *reader) one(f *os.File, b book, off int64, n int) {
	got, want := r.got[:n], r.want[:n]
	for i := range got {
		got[i] = noise
	}
	begun := time.Now()
	came, err := f.ReadAt(got, off)
	took := time.Since(begun)
	b.want(r.t, want, off)
	where := func() string { return fmt.Sprintf("%s, %d bytes at %d, after %v", b.path, n, off, took) }
	var errno unix.Errno
	switch {
	case took > r.within:
		r.complain("%s: %v; it may take %v", where(), err, r.within)
	case !bytes.Equal(got[:came], want[:came]):
		at := 0
		for got[at] == want[at] {
			at++
		}
		r.complain("%s: wrong from byte %d on: %x, want %x (error %v)", where(), at, got[at:min(at+16, came)], want[at:min(at+16, came)], err)
		return
	case err == nil:
	case !errors.As(err, &errno) || !slices.Contains(r.allowed, errno):
		r.complain("%s: %v", where(), err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tl.slowest = max(r.tl.slowest, took)
	if err != nil {
		errors.As(err, &errno)
		r.tl.errors[errno]++
		r.tl.failed++
		return
	}
	r.tl.right++
	r.tl.bytes += int64(came)
}

// complain says the first things that are wrong, and counts the others.
func (c *clients) complain(format string, args ...any) {
	c.t.Helper()
	c.mu.Lock()
	c.tl.wrong++
	first := c.tl.wrong <= 5
	c.mu.Unlock()
	if first {
		c.t.Errorf(format, args...)
	} else {
		c.t.Fail()
	}
}

// readsRight reads a part of the files of each layout. All must be right, within some seconds from now: a source
// that was given up for dead is found alive again.
func (s *stack) readsRight(t *testing.T) {
	t.Helper()
	s.readsAs(t, s.w.reference, 0.1)
}

// readsAs does so with a reference and a share of the files: small ones whole, which with all of them is every
// tile, and large ones here and there.
func (s *stack) readsAs(t *testing.T, reference *reference, share float64) {
	t.Helper()
	until := time.Now().Add(10 * time.Second * slower)
	rng := rand.New(rand.NewPCG(rand.Uint64(), 0))
	got, want := make([]byte, mostRead), make([]byte, mostRead)
	for _, layout := range reference.names {
		books := slices.Clone(reference.layouts[layout])
		rng.Shuffle(len(books), func(i, j int) { books[i], books[j] = books[j], books[i] })
		for _, b := range books[:int(math.Ceil(share*float64(len(books))))] {
			for piece := range 5 {
				off, n := int64(0), int(min(mostRead, b.size))
				if piece > 0 && b.size <= mostRead {
					break
				} else if piece > 0 {
					off, _ = b.somewhere(t, rng)
					n = int(min(mostRead, b.size-off))
				}
				err := s.readOnce(b.path, got[:n], off)
				for err != nil && time.Now().Before(until) {
					time.Sleep(50 * time.Millisecond)
					err = s.readOnce(b.path, got[:n], off)
				}
				if b.want(t, want[:n], off); err != nil || !bytes.Equal(got[:n], want[:n]) {
					t.Errorf("the fault is over, and %s does not read right at %d (%v)", b.path, off, err)
					return
				}
			}
		}
	}
}

func (s *stack) readOnce(path string, p []byte, off int64) error {
	f, err := os.Open(filepath.Join(s.dir, path))
	if err != nil {
		return err
	}
	defer f.Close()
	forget(f)
	_, err = f.ReadAt(p, off)
	return err
}

// forget has the kernel drop what it keeps of a file, so that tesserafs is asked.
func forget(f *os.File) { _ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) }
