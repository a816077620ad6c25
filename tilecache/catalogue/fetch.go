package catalogue

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/tesserafs/tesserafs/tilecache/source"
)

// fetchers is how many pieces of an object are on their way at once, each with a buffer.
const fetchers = 4

// fetch copies an object to the disk and opens the copy. The caller holds the lock of its name.
func (c *copies) fetch(ctx context.Context, name string, obj source.Object) (*kept, error) {
	info := obj.Info()
	h := copyHeader{Name: name, Size: info.Size, ModTime: info.ModTime.UTC(), ETag: info.ETag}
	c.log.Info("fetching", "object", name, "source", c.src.String(), "bytes", info.Size)
	return c.write(h, func(f *os.File) ([]uint64, error) {
		p := &pieces{obj: obj, file: f, sums: make([]uint64, (info.Size+pieceBytes-1)/pieceBytes)}
		if prefixed, ok := obj.(source.Prefixed); ok {
			p.prefix = prefixed.Prefix()
		}
		if c.fetched != nil {
			p.came = func(done int64) { c.fetched(name, done, info.Size) }
		}
		return p.sums, p.fetch(ctx)
	})
}

// pieces are those of one object that is fetched.
type pieces struct {
	obj    source.Object
	file   *os.File
	prefix []byte // of the object, that is here already
	sums   []uint64
	came   func(done int64) // nil for nobody

	mu   sync.Mutex // guards done, and calls of came
	done int64
}

func (p *pieces) fetch(ctx context.Context) error {
	size := p.obj.Info().Size
	buffers := make(chan []byte, fetchers)
	for range fetchers {
		buffers <- nil // made when it is needed
	}
	workers, working := errgroup.WithContext(ctx)
	workers.SetLimit(fetchers)
	for i := range p.sums {
		if working.Err() != nil {
			break
		}
		workers.Go(func() error {
			buf := <-buffers
			if buf == nil {
				buf = make([]byte, min(pieceBytes, size))
			}
			defer func() { buffers <- buf }()
			off := int64(i) * pieceBytes
			return p.piece(working, i, buf[:min(pieceBytes, size-off)], off)
		})
	}
	if err := workers.Wait(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return p.obj.Check(ctx)
}

func (p *pieces) piece(ctx context.Context, i int, buf []byte, off int64) error {
	have := 0
	if off < int64(len(p.prefix)) {
		have = copy(buf, p.prefix[off:])
	}
	if have < len(buf) {
		if _, err := p.obj.ReadAt(ctx, buf[have:], off+int64(have)); err != nil {
			return err
		}
	}
	p.sums[i] = xxhash.Sum64(buf)
	if err := writeAt(p.file, buf, off); err != nil {
		return err
	}
	if p.came != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.done += int64(len(buf))
		p.came(p.done)
	}
	return nil
}

// pieceSums are the XXH64 of the pieces of bytes.
func pieceSums(data []byte) []uint64 {
	var sums []uint64
	for off := 0; off < len(data); off += pieceBytes {
		sums = append(sums, xxhash.Sum64(data[off:min(len(data), off+pieceBytes)]))
	}
	return sums
}

// writeAt writes bytes of an object to its copy.
func writeAt(f *os.File, data []byte, off int64) error {
	if _, err := f.WriteAt(data, copyHead+off); err != nil {
		return &localError{err}
	}
	return nil
}

// write makes a copy: beside the one that may be there, and in its place when all of it is on the disk. The
// caller holds the lock of its name, so that whatever lies under the passing name is of a process that
// is no more.
func (c *copies) write(h copyHeader, body func(f *os.File) (sums []uint64, err error)) (_ *kept, err error) {
	h.Format, h.Source = copyFormat, c.src.String()
	path := c.place(h.Name)
	passing := path + ".tmp"
	if err := os.Remove(passing); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, &localError{err}
	}
	f, err := os.OpenFile(passing, os.O_RDWR|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, &localError{err}
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(passing)
		}
	}()
	sums, err := body(f)
	if err != nil {
		return nil, err
	}
	page, err := h.page(sums)
	if err == nil {
		_, err = f.WriteAt(page, 0)
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(passing, path)
	}
	if err != nil {
		return nil, &localError{err}
	}
	syncDir(c.dir)
	return &kept{file: f, header: h, checked: time.Now().UTC()}, nil
}

// syncDir makes a new name in a directory last. Where that fails, the name may be lost in a crash, which
// costs a fetch.
func syncDir(dir string) {
	if d, err := os.Open(dir); err == nil {
		_ = d.Sync()
		d.Close()
	}
}

// lock makes this process the only one that writes the copy of a name, and says whether it had to wait
// for another. The kernel lets go of the locks of a process that ends.
func (c *copies) lock(ctx context.Context, name string) (unlock func(), waited bool, err error) {
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return nil, false, &localError{err}
	}
	path := c.place(name) + ".lock"
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, false, &localError{err}
	}
	const again = 50 * time.Millisecond
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return func() { f.Close() }, waited, nil
		case errors.Is(err, unix.EINTR):
			continue
		case !errors.Is(err, unix.EWOULDBLOCK):
			f.Close()
			return nil, waited, &localError{fmt.Errorf("%s cannot be locked: %w", filepath.Base(path), err)}
		case !waited:
			c.log.Info("another process is fetching it: waiting", "object", name, "source", c.src.String())
		}
		waited = true
		select {
		case <-ctx.Done():
			f.Close()
			return nil, waited, ctx.Err()
		case <-time.After(again):
		}
	}
}
