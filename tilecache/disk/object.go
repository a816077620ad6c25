package disk

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	indexPages = 64 // whose entries one pread gets
	readPages  = 8  // that one pread gets: they are checked while in the processor's cache
	writePages = 16 // that one pwrite keeps; also the unit of punching holes

	touchEvery = time.Minute
)

// Object is the pages kept of one state of one object. All methods may be called by many goroutines
// at once.
type Object struct {
	cache *Cache
	id    identity
	size  int64

	file    atomic.Pointer[file] // nil while there is none
	touched atomic.Int64         // when the file was last marked as used, in seconds of Unix time

	mu     sync.Mutex // guards closed, and changes of file
	closed bool
}

// file is the open file of a state. It may have been unlinked since.
type file struct {
	*os.File
	writable bool
}

// blocks is the bytes that the file takes on disk, and whether it has been unlinked.
func (f *file) blocks() (bytes int64, unlinked bool, err error) {
	info, err := f.Stat()
	if err != nil {
		return 0, false, err
	}
	st := info.Sys().(*syscall.Stat_t)
	return st.Blocks * 512, st.Nlink == 0, nil
}

// whole is the part of p, which lies at a page, that is whole pages of the object.
func (o *Object) whole(page int64, p []byte) []byte {
	if page < 0 || page >= pagesIn(o.size) {
		return nil
	}
	if left := o.size - page*PageSize; int64(len(p)) >= left {
		return p[:left]
	}
	return p[:len(p)/PageSize*PageSize]
}

// Read fills p with pages from this one on, as many leading ones as are kept and right, and returns how
// many bytes of p that are. p holds whole pages; an object's last may be short. What else is in p
// afterwards has no meaning.
func (o *Object) Read(ctx context.Context, page int64, p []byte) int {
	p = o.whole(page, p)
	n := 0
	f := o.open()
	for range 2 {
		if f == nil || n == len(p) || ctx.Err() != nil {
			break
		}
		n += o.read(ctx, f, page+int64(n/PageSize), p[n:])
		if n < len(p) {
			f = o.reopen(f)
		}
	}
	c := o.cache
	if n < len(p) && ctx.Err() == nil {
		c.misses.Add(1)
	}
	if n > 0 {
		c.hits.Add(pagesIn(int64(n)))
		c.bytesRead.Add(int64(n))
		o.touch()
	}
	return n
}

// read is Read, of one file.
func (o *Object) read(ctx context.Context, f *file, page int64, p []byte) (n int) {
	var index [indexPages * entrySize]byte
	for n < len(p) && ctx.Err() == nil {
		entries := index[:min(indexPages, pagesIn(int64(len(p)-n)))*entrySize]
		// A file that ends early, or cannot be read, has no pages there.
		got, _ := f.ReadAt(entries, entryOffset(page))
		kept := 0
		for (kept+1)*entrySize <= got && entryAt(entries, kept) != 0 {
			kept++
		}
		for i := 0; i < kept; i += readPages {
			some := min(kept-i, readPages)
			right := o.readRun(f, page, p[n:min(len(p), n+some*PageSize)], entries[i*entrySize:])
			n = min(len(p), n+right*PageSize)
			page += int64(right)
			if right < some {
				return n
			}
		}
		if kept*entrySize < len(entries) {
			return n
		}
	}
	return n
}

// readRun fills p with pages that have these entries. It returns how many leading ones are right.
func (o *Object) readRun(f *file, page int64, p []byte, entries []byte) (right int) {
	// What cannot be read does not have its entry either.
	_, _ = f.ReadAt(p, pagesOffset(o.size)+page*PageSize)
	for i := 0; i < len(p); i += PageSize {
		if entry := entryAt(entries, right); o.id.entry(page, p[i:min(i+PageSize, len(p))]) != entry {
			o.drop(f, page, entry)
			return right
		}
		right++
		page++
	}
	return right
}

func entryAt(index []byte, i int) uint64 { return binary.LittleEndian.Uint64(index[i*entrySize:]) }

// drop takes a page that is not what its entry says out of the index, unless it was evicted meanwhile,
// or the file closed for another.
func (o *Object) drop(f *file, page int64, entry uint64) {
	var now [entrySize]byte
	_, err := f.ReadAt(now[:], entryOffset(page))
	if err == io.EOF || errors.Is(err, fs.ErrClosed) || err == nil && entryAt(now[:], 0) != entry {
		return
	}
	c := o.cache
	c.damaged.Add(1)
	if !c.told.Swap(true) {
		c.log.Warn("a page kept on disk was damaged: it is fetched again, as are others like it, which are only counted",
			"file", o.path(), "page", page)
	}
	if f.writable {
		// Where that fails, the next read finds the page damaged again.
		_, _ = f.WriteAt(make([]byte, entrySize), entryOffset(page))
	}
}

// Has says whether a page seems to be kept. It costs a system call.
func (o *Object) Has(page int64) bool {
	if page < 0 || page >= pagesIn(o.size) {
		return false
	}
	f := o.open()
	if f == nil {
		return false
	}
	var entry [entrySize]byte
	n, _ := f.ReadAt(entry[:], entryOffset(page))
	return n == len(entry) && entryAt(entry[:], 0) != 0
}

// touch marks the file as used, unless that was done a short while ago.
func (o *Object) touch() {
	now := time.Now()
	if last := o.touched.Load(); now.Unix()-last < int64(touchEvery/time.Second) || !o.touched.CompareAndSwap(last, now.Unix()) {
		return
	}
	// Where it fails, the state is evicted earlier than others are.
	_ = os.Chtimes(o.path(), now, now)
}

// path is where the state's file lies, if it is there.
func (o *Object) path() string { return filepath.Join(o.cache.dir, place(o.id.file)) }

// Write keeps pages from this one on. p holds whole pages; an object's last may be short, and what is
// neither is ignored. Failing to keep them makes later reads slower, and is counted. It may wait
// while room is made.
func (o *Object) Write(page int64, p []byte) {
	p = o.whole(page, p)
	c := o.cache
	for len(p) > 0 {
		batch := p[:min(len(p), c.batch)]
		if !c.mayWrite() {
			break
		}
		if err := o.write(page, batch); errors.Is(err, fs.ErrClosed) {
			break
		} else if err != nil {
			c.failed(err)
			break
		}
		c.succeeded()
		c.bytesWritten.Add(int64(len(batch)))
		p = p[len(batch):]
		page += pagesIn(int64(len(batch)))
	}
	c.writeFailures.Add(pagesIn(int64(len(p))))
}

// write keeps one batch of pages.
func (o *Object) write(page int64, p []byte) error {
	o.mu.Lock()
	closed := o.closed
	o.mu.Unlock()
	if closed {
		return fs.ErrClosed
	}
	// A block of the index; and a directory's and the header's, should the file have to be made.
	cost := pagesIn(int64(len(p)))*PageSize + 4096
	f := o.file.Load()
	if f == nil {
		cost += 2 * 4096
	}
	if err := o.cache.reserve(cost, o, page+pagesIn(int64(len(p)))); err != nil {
		return err
	}
	f, before, err := o.target(f)
	if err != nil {
		return err
	}
	index := make([]byte, 0, writePages*entrySize)
	for i := 0; i < len(p); i += PageSize {
		index = binary.LittleEndian.AppendUint64(index, o.id.entry(page+int64(i/PageSize), p[i:min(i+PageSize, len(p))]))
	}
	if _, err := f.WriteAt(p, pagesOffset(o.size)+page*PageSize); err != nil {
		return err
	}
	if _, err := f.WriteAt(index, entryOffset(page)); err != nil {
		return err
	}
	if after, _, err := f.blocks(); err == nil {
		o.cache.owe(after - before - cost)
	}
	return nil
}

// target gives the file to write to, which it makes if there is none, and the bytes it takes before.
func (o *Object) target(f *file) (*file, int64, error) {
	if f != nil && f.writable {
		// A file that another process has emptied to evict it is on its way to be unlinked.
		if bytes, unlinked, err := f.blocks(); err == nil && !unlinked && bytes > 0 {
			return f, bytes, nil
		}
	}
	f, err := o.replace(f, true)
	if err != nil {
		return nil, 0, err
	}
	bytes, _, err := f.blocks()
	return f, bytes, err
}

// open gives the state's file, which it looks for if there is none open; nil where there is none
// to be had.
func (o *Object) open() *file {
	if f := o.file.Load(); f != nil {
		return f
	}
	f, _ := o.replace(nil, false)
	return f
}

// reopen gives the file that has taken the place of one that was unlinked; nil where that one
// was not, or none has.
func (o *Object) reopen(f *file) *file {
	if _, unlinked, err := f.blocks(); err == nil && !unlinked {
		return nil
	}
	f, _ = o.replace(f, false)
	return f
}

// replace opens the state's file, instead of one that no longer will do, unless another goroutine has
// done so. It makes a new one where that is asked for and there is none.
func (o *Object) replace(old *file, create bool) (*file, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return nil, fs.ErrClosed
	}
	if now := o.file.Load(); now != old {
		if now != nil || !create {
			return now, nil
		}
		old = nil // which a reader has closed, and found no other
	}
	f, err := o.find()
	if create && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNotOurs) || errors.Is(err, unix.ELOOP)) {
		f, err = o.create()
	}
	if err == nil && f.writable {
		// Before there is a page, so that no page is kept that --offline would not find.
		err = o.point()
	} else if err == nil {
		err = fmt.Errorf("%s: %w", o.path(), fs.ErrPermission)
	}
	if err != nil && create {
		if f != nil {
			f.Close()
		}
		return nil, err
	}
	if old != nil {
		old.Close() // Reads under way end first.
	}
	o.file.Store(f)
	return f, nil
}

// find opens the state's file if it is there.
func (o *Object) find() (*file, error) {
	f, writable, err := openRegular(o.path())
	if err != nil {
		return nil, err
	}
	h := make([]byte, headerSize)
	if _, err = f.ReadAt(h, 0); err == io.EOF || err == nil && !bytes.Equal(h, o.id.header) {
		err = fmt.Errorf("%s: %w", o.path(), errNotOurs)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &file{f, writable}, nil
}

// create makes a new file for the state, with its header. What was there under the name, which was
// found to be damaged or was made just now by another process, gives way.
func (o *Object) create() (*file, error) {
	var f *os.File
	err := putInPlace(o.path(), func(temporary string) (err error) {
		if f != nil { // that was taken away as it was made
			f.Close()
		}
		f, err = os.OpenFile(temporary, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err == nil {
			_, err = f.WriteAt(o.id.header, 0)
		}
		return err
	})
	if err != nil {
		if f != nil {
			f.Close()
		}
		return nil, err
	}
	return &file{f, true}, nil
}

// point has the object's link say that this is its newest state.
func (o *Object) point() error {
	link := filepath.Join(o.cache.dir, place(pointer(o.id.file)))
	if target, err := os.Readlink(link); err == nil && target == o.id.file {
		return nil
	}
	return putInPlace(link, func(temporary string) error { return os.Symlink(o.id.file, temporary) })
}

// putInPlace has something made under another name in the same directory, which then gets its own.
func putInPlace(path string, make func(temporary string) error) error {
	dir := filepath.Dir(path)
	var random [8]byte
	_, _ = rand.Read(random[:]) // It does not fail.
	temporary := filepath.Join(dir, "new-"+hex.EncodeToString(random[:]))
	var err error
	// Another process may remove the directory while it is empty, and a cleaner what is in it.
	for range 3 {
		if err = os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err = make(temporary); err == nil {
			err = os.Rename(temporary, path)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	if err != nil {
		os.Remove(temporary)
	}
	return err
}

// Close ends the use of the object's pages. Reads after it find nothing, and writes keep nothing.
func (o *Object) Close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	if f := o.file.Swap(nil); f != nil {
		f.Close()
	}
}
