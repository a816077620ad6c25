package localdir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tesserafs/tesserafs/tilecache/source"
)

// pathInterval is how long a look at an object's path is believed.
const pathInterval = time.Second

// start is what times are counted from, so that they fit an atomic and never go back.
var start = time.Now()

var _ source.Ranger = (*object)(nil)

// object is one open regular file.
type object struct {
	path string
	file *os.File
	fd   int         // of file, for fstat; the file is not closed while calls run
	was  unix.Stat_t // when it was opened
	info source.Info

	gone       atomic.Pointer[string] // how it was seen to change; an object never changes back
	pathLooked atomic.Int64           // nanoseconds from start to the last look at the path
	closed     atomic.Bool
}

func newObject(f *os.File, path string) (*object, error) {
	o := &object{path: path, file: f, fd: int(f.Fd())}
	if err := unix.Fstat(o.fd, &o.was); err != nil {
		return nil, fmt.Errorf("stat %s: %w", path, err)
	}
	if o.was.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, fmt.Errorf("%s: not a regular file: put the tile itself, or a link to it, in its place: %w", path, fs.ErrInvalid)
	}
	o.info = infoOf(&o.was)
	o.pathLooked.Store(int64(time.Since(start)))
	return o, nil
}

func (o *object) Info() source.Info { return o.info }

// ReadAt reads, then looks whether the file is still the one it was: only then are the bytes known
// to be of that state.
func (o *object) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("read %s: %w", o.path, err)
	}
	if off < 0 {
		return 0, fmt.Errorf("read %s: offset %d: %w", o.path, off, fs.ErrInvalid)
	}
	n, err := o.file.ReadAt(p, off)
	if errors.Is(err, fs.ErrClosed) {
		return 0, err
	}
	if cerr := o.Check(ctx); cerr != nil {
		return 0, cerr
	}
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("read %s: bytes %d to %d of %d: %w", o.path, off, off+int64(len(p)), o.info.Size, io.ErrUnexpectedEOF)
	}
	return n, err
}

// ReadRanges reads all, then looks once.
func (o *object) ReadRanges(ctx context.Context, ranges []source.Range) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("read %s: %w", o.path, err)
	}
	var failed error
	for _, r := range ranges {
		if r.Off < 0 {
			return fmt.Errorf("read %s: offset %d: %w", o.path, r.Off, fs.ErrInvalid)
		}
		if _, err := o.file.ReadAt(r.P, r.Off); err != nil {
			if errors.Is(err, io.EOF) {
				err = fmt.Errorf("read %s: bytes %d to %d of %d: %w", o.path, r.Off, r.Off+int64(len(r.P)), o.info.Size, io.ErrUnexpectedEOF)
			}
			failed = err
			break
		}
	}
	if errors.Is(failed, fs.ErrClosed) {
		return failed
	}
	if err := o.Check(ctx); err != nil {
		return err
	}
	return failed
}

func (o *object) Check(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("check %s: %w", o.path, err)
	}
	if o.closed.Load() {
		return fmt.Errorf("check %s: %w", o.path, fs.ErrClosed)
	}
	if how := o.gone.Load(); how != nil {
		return o.changed(*how)
	}
	var st unix.Stat_t
	switch err := unix.Fstat(o.fd, &st); {
	case errors.Is(err, unix.ESTALE):
		return o.changed("its server no longer has it")
	case err != nil:
		return fmt.Errorf("stat %s: %w", o.path, err)
	case st.Size != o.was.Size:
		return o.changed(fmt.Sprintf("it had %d bytes, now %d", o.was.Size, st.Size))
	case st.Mtim != o.was.Mtim:
		return o.changed("it was written to")
	}
	return o.checkPath()
}

// checkPath looks whether the path still leads to the open file, unless that was looked at a moment
// ago.
func (o *object) checkPath() error {
	now, last := int64(time.Since(start)), o.pathLooked.Load()
	if now-last < int64(pathInterval) || !o.pathLooked.CompareAndSwap(last, now) {
		return nil
	}
	var st unix.Stat_t
	err := ignoreEINTR(func() error { return unix.Stat(o.path, &st) })
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ESTALE):
		return o.changed("it was deleted or moved")
	case err != nil:
		o.pathLooked.Store(last) // The next call asks again.
		return fmt.Errorf("stat %s: %w", o.path, err)
	case st.Dev != o.was.Dev || st.Ino != o.was.Ino:
		return o.changed("another file took its place")
	}
	return nil
}

// changed notes that the file is another now.
func (o *object) changed(how string) error {
	o.gone.CompareAndSwap(nil, &how)
	return fmt.Errorf("%s: %w: %s", o.path, source.ErrChanged, how)
}

func (o *object) Close() error {
	if o.closed.Swap(true) {
		return fmt.Errorf("close %s: %w", o.path, fs.ErrClosed)
	}
	return o.file.Close()
}

// ignoreEINTR calls again what a signal broke off, as package os does: the Go runtime uses signals
// of its own.
func ignoreEINTR(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
