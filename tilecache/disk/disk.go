package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tesserafs/tesserafs/tilecache/source"
)

const (
	defaultLimit = 10 << 30
	pause        = 30 * time.Second // of writing, after it failed
	patience     = 5 * time.Second  // with another process that holds the lock
)

// Config says how much a Cache keeps.
type Config struct {
	// Limit is the bytes on disk: 10 GiB where it is zero or less. Below 1 MiB hardly anything is kept.
	Limit int64
	Log   *slog.Logger // nil for none
}

// Cache is a directory of pages. All methods may be called by many goroutines at once, and many
// processes may have a Cache of one directory.
type Cache struct {
	dir   string // that of this format
	limit int64
	log   *slog.Logger
	batch int // bytes written at once

	pause, patience time.Duration

	closed atomic.Bool

	// mu guards credit and what is taken from the limit. It is held while room is made: only what
	// writes takes it.
	mu     sync.Mutex
	credit int64 // bytes that were taken from the limit and not yet written; below 0: owed

	paused  atomic.Int64 // until then, in nanoseconds of Unix time, nothing is written
	failing atomic.Bool  // writing has failed, and not yet gone well again
	told    atomic.Bool  // of a damaged page

	hits, misses, bytesRead, bytesWritten, damaged, writeFailures, evictions atomic.Int64
}

// Stats counts what a Cache has done, and how much the directory holds.
type Stats struct {
	Hits          int64 `json:"hits"`   // pages read
	Misses        int64 `json:"misses"` // reads that ended before a page that is not kept
	BytesRead     int64 `json:"bytes_read"`
	BytesWritten  int64 `json:"bytes_written"`
	DamagedPages  int64 `json:"damaged_pages"`  // found so or unreadable, and dropped
	WriteFailures int64 `json:"write_failures"` // pages that could not be kept
	Evictions     int64 `json:"evictions"`      // states of objects that this process removed or shortened
	BytesKept     int64 `json:"bytes_kept"`     // by all processes, and for what they are about to write
	Limit         int64 `json:"limit"`
}

// Open takes a directory, which is made if it is not there. It fails where the directory cannot be
// used at all; one that may not be written to is read.
func Open(dir string, cfg Config) (*Cache, error) {
	if dir == "" {
		return nil, fmt.Errorf("no directory named for the cache: name one that may be written to: %w", fs.ErrInvalid)
	}
	root, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("cache directory %s: %w", dir, err)
	}
	c := &Cache{dir: filepath.Join(root, subdir), limit: cfg.Limit, log: cfg.Log, pause: pause, patience: patience}
	if c.limit <= 0 {
		c.limit = defaultLimit
	}
	c.batch = int(min(max(1, c.limit/64/PageSize), writePages)) * PageSize
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return nil, unusable(root, err)
	}
	// To look up what is inside, the right to search is needed.
	if _, err := os.Stat(c.dir + "/."); err != nil {
		return nil, unusable(root, err)
	}
	// It may be a link to another disk, which a count would not follow.
	if c.dir, err = filepath.EvalSymlinks(c.dir); err != nil {
		return nil, unusable(root, err)
	}
	return c, nil
}

func unusable(root string, err error) error {
	what := "it cannot be used, name another"
	switch {
	case errors.Is(err, unix.ENOTDIR):
		what = "part of this path is a file, name a directory"
	case errors.Is(err, fs.ErrPermission):
		what = "this user may not use it, name another or change its owner"
	case errors.Is(err, unix.EROFS):
		what = "its filesystem is read-only, name another"
	case full(err):
		what = "its disk is full, make room there or name another"
	}
	return fmt.Errorf("cache directory %s: %s: %w", root, what, err)
}

// full says whether an error is the disk's or the quota's end.
func full(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// Object is the pages kept of one state of an object: source is how the object's source is named, name
// and info what it has there. It fails with fs.ErrClosed after Close, and in no other case: of
// objects beyond 4 TiB, or whose names and ETag are longer than about 2,000 bytes together, nothing is
// kept. The caller must Close it.
func (c *Cache) Object(source, name string, info source.Info) (*Object, error) {
	if c.closed.Load() {
		return nil, fmt.Errorf("%s: the cache in %s is %w", name, c.dir, fs.ErrClosed)
	}
	st := state{source, name, info}
	id, ok := st.identify()
	if !ok {
		return &Object{cache: c, closed: true}, nil
	}
	o := &Object{cache: c, id: id, size: info.Size}
	o.open()
	return o, nil
}

// Known is the state of an object that was last opened among those of which pages were kept, if
// it still is there.
func (c *Cache) Known(source, name string) (source.Info, bool) {
	link := nameHash(source, name)
	file, err := os.Readlink(filepath.Join(c.dir, place(link)))
	if err != nil || !statePattern.MatchString(file) || pointer(file) != link {
		return unknown, false
	}
	f, _, err := openRegular(filepath.Join(c.dir, place(file)))
	if err != nil {
		return unknown, false
	}
	defer f.Close()
	st, err := readState(f)
	if err != nil || st.source != source || st.name != name {
		return unknown, false
	}
	return st.info, true
}

var unknown source.Info

// readState is whose pages a file holds.
func readState(f *os.File) (state, error) {
	h := make([]byte, headerSize)
	if _, err := f.ReadAt(h, 0); err != nil {
		return state{}, err
	}
	st, ok := parseHeader(h)
	if !ok {
		return state{}, errNotOurs
	}
	return st, nil
}

// errNotOurs: a file does not hold what its name says.
var errNotOurs = errors.New("not the header that belongs there")

// openRegular opens a file that is no link, pipe or device; only for reading where it may not be written
// to.
func openRegular(path string) (f *os.File, writable bool, err error) {
	const flags = unix.O_NOFOLLOW | unix.O_NONBLOCK // A pipe's open would wait for its other end.
	f, err = os.OpenFile(path, os.O_RDWR|flags, 0)
	writable = err == nil
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) {
		f, err = os.OpenFile(path, os.O_RDONLY|flags, 0)
	}
	if err != nil {
		return nil, false, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errNotOurs
	}
	if err != nil {
		f.Close()
		return nil, false, err
	}
	return f, writable, nil
}

// mayWrite says whether writing is not paused.
func (c *Cache) mayWrite() bool {
	return time.Now().UnixNano() >= c.paused.Load()
}

// failed pauses writing after an error, and says so once until it goes well again. On a full disk it
// makes room for when the pause is over.
func (c *Cache) failed(err error) {
	now := time.Now()
	before := c.paused.Swap(now.Add(c.pause).UnixNano())
	// Others that write just now fail with it.
	if full(err) && before < now.UnixNano() {
		c.shrink()
	}
	if c.failing.Swap(true) {
		return
	}
	what := "see the error"
	switch {
	case full(err):
		what = "make room on its disk, or give the cache a lower limit"
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.EROFS):
		what = "give this user the right to write there, or name another cache directory"
	}
	c.log.Warn("pages cannot be kept on disk: reading goes on, and this is tried again from time to time",
		"dir", c.dir, "error", strings.ReplaceAll(err.Error(), "\n", " "), "do", what)
}

// succeeded notes that something was written.
func (c *Cache) succeeded() {
	if c.failing.Load() && c.failing.CompareAndSwap(true, false) {
		c.log.Info("pages are kept on disk again", "dir", c.dir)
	}
}

// Stats says what the cache has done and holds.
func (c *Cache) Stats() Stats {
	s := Stats{
		Hits:          c.hits.Load(),
		Misses:        c.misses.Load(),
		BytesRead:     c.bytesRead.Load(),
		BytesWritten:  c.bytesWritten.Load(),
		DamagedPages:  c.damaged.Load(),
		WriteFailures: c.writeFailures.Load(),
		Evictions:     c.evictions.Load(),
		Limit:         c.limit,
	}
	if f, _, err := openRegular(filepath.Join(c.dir, totalFile)); err == nil {
		s.BytesKept, _ = readTotal(f)
		f.Close()
	}
	return s
}

// Close gives back what was taken from the limit and not written. Later calls of Object fail; open
// ones keep nothing more, and read on until they are closed.
func (c *Cache) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed.Swap(true) || c.credit == 0 {
		return nil
	}
	// What cannot be given back now is found when the directory is counted next.
	if t, err := c.lockTotal(); err == nil {
		if kept, ok := t.bytes(); ok {
			t.set(kept - c.credit)
		}
		t.unlock()
	}
	return nil
}
