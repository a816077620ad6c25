package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	totalFile = "total"

	maxStep      = 16 << 20 // bytes taken from the limit at once
	oldestStates = 1 << 16  // remembered by one count
	abandoned    = time.Hour
)

// reserve takes bytes from the limit for what an object is about to write, and makes room where that
// is needed, at last in the object itself from this page on.
func (c *Cache) reserve(bytes int64, o *Object, page int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed.Load():
		return fs.ErrClosed
	case c.credit >= bytes:
		c.credit -= bytes
		return nil
	case !c.mayWrite():
		return errors.New("another write has just failed")
	}
	t, err := c.lockTotal()
	if err != nil {
		return err
	}
	defer t.unlock()
	most := c.limit - c.limit/32
	grant := max(bytes, min(c.limit/128, maxStep))
	kept, known := t.bytes()
	kept -= c.credit // which begins anew with the grant
	if !known || kept+grant > most {
		kept = c.makeRoom(c.limit/10*9-grant, o, page)
		if kept+grant > most {
			grant = bytes
		}
	}
	c.credit = 0
	if kept+grant > most {
		_ = t.set(kept)
		return fmt.Errorf("%s: %d of %d bytes are taken by what cannot be removed", c.dir, kept, c.limit)
	}
	if err := t.set(kept + grant); err != nil {
		return err
	}
	c.credit = grant - bytes
	return nil
}

// owe notes that a write took more room than was reserved for it.
func (c *Cache) owe(bytes int64) {
	if bytes <= 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.credit -= bytes
}

// shrink makes room on a full disk: a tenth of what is kept.
func (c *Cache) shrink() {
	c.mu.Lock()
	defer c.mu.Unlock()
	t, err := c.lockTotal()
	if err != nil {
		return // as long as it lasts, nothing is written
	}
	defer t.unlock()
	kept, _ := c.count()
	c.credit = 0
	_ = t.set(c.makeRoom(kept/10*9, nil, 0)) // It is as wrong as before where that fails.
}

// total is the file with the bytes kept, locked.
type total struct{ f *os.File }

// lockTotal waits a while for other processes to unlock it.
func (c *Cache) lockTotal() (total, error) {
	path := filepath.Join(c.dir, totalFile)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return total{}, err
	}
	for until := time.Now().Add(c.patience); ; time.Sleep(2 * time.Millisecond) {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return total{f}, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) || time.Now().After(until) {
			f.Close()
			return total{}, fmt.Errorf("lock %s, which another process may hold: %w", path, err)
		}
	}
}

func (t total) unlock() { t.f.Close() }

// bytes is the total, where it is known.
func (t total) bytes() (int64, bool) { return readTotal(t.f) }

// readTotal reads a number, which its complement follows.
func readTotal(f *os.File) (int64, bool) {
	var b [16]byte
	if _, err := f.ReadAt(b[:], 0); err != nil {
		return 0, false
	}
	n := binary.LittleEndian.Uint64(b[:])
	if n != ^binary.LittleEndian.Uint64(b[8:]) || int64(n) < 0 {
		return 0, false
	}
	return int64(n), true
}

func (t total) set(bytes int64) error {
	n := uint64(max(0, bytes))
	b := binary.LittleEndian.AppendUint64(nil, n)
	_, err := t.f.WriteAt(binary.LittleEndian.AppendUint64(b, ^n), 0)
	return err
}

// stateFile is a state's file, as a count found it.
type stateFile struct {
	file  string
	bytes int64
	used  time.Time
}

// count says how many bytes everything in the directory takes, and which states were used least
// recently, those first. It removes what was begun and never renamed.
func (c *Cache) count() (bytes int64, oldest []stateFile) {
	byUse := func(a, b stateFile) int { return a.used.Compare(b.used) }
	// What cannot be read, or is gone just now, is not counted.
	_ = filepath.WalkDir(c.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return nil
		}
		name := d.Name()
		size := info.Sys().(*syscall.Stat_t).Blocks * 512
		if statePattern.MatchString(name) && info.Mode().IsRegular() && path == filepath.Join(c.dir, place(name)) {
			oldest = append(oldest, stateFile{name, size, info.ModTime()})
			if len(oldest) == 2*oldestStates {
				slices.SortFunc(oldest, byUse)
				oldest = oldest[:oldestStates]
			}
		}
		if dir := filepath.Dir(path); newPattern.MatchString(name) && !d.IsDir() && time.Since(info.ModTime()) > abandoned &&
			filepath.Dir(dir) == c.dir && fanPattern.MatchString(filepath.Base(dir)) && os.Remove(path) == nil {
			size = 0
		}
		bytes += size
		return nil
	})
	slices.SortFunc(oldest, byUse)
	return bytes, oldest[:min(len(oldest), oldestStates)]
}

// makeRoom removes states until no more than this is kept, as far as it can: those used least recently
// first, and last the object's that is about to write before a page. It returns what is kept then.
// The caller holds the lock of the total.
func (c *Cache) makeRoom(target int64, o *Object, page int64) int64 {
	for {
		bytes, oldest := c.count()
		counted := bytes
		var own *stateFile
		for i := range oldest {
			if bytes <= target {
				return bytes
			}
			if o != nil && oldest[i].file == o.id.file {
				own = &oldest[i]
				continue
			}
			bytes -= c.evict(oldest[i], bytes-target, 0)
		}
		if own != nil && bytes > target {
			bytes -= c.evict(*own, bytes-target, page)
		}
		// There may be more states than one count remembers.
		if bytes <= target || bytes == counted {
			return bytes
		}
	}
}

// evict frees that many bytes of a state, or all it has. Of a part, pages from this one on go first.
func (c *Cache) evict(s stateFile, bytes, page int64) (freed int64) {
	path := filepath.Join(c.dir, place(s.file))
	f, writable, err := openRegular(path)
	if err != nil {
		return 0
	}
	defer f.Close()
	if !writable {
		return 0
	}
	c.evictions.Add(1)
	if s.bytes > bytes {
		if st, err := readState(f); err == nil {
			if freed := punch(&file{f, true}, st.info.Size, page, bytes); freed > 0 {
				_ = os.Chtimes(path, time.Time{}, s.used) // Losing pages is no use.
				return freed
			}
		}
	}
	link := filepath.Join(c.dir, place(pointer(s.file)))
	if target, err := os.Readlink(link); err == nil && target == s.file {
		_ = os.Remove(link) // It would lead nowhere, which Known bears.
	}
	if os.Remove(path) != nil {
		return 0
	}
	_ = f.Truncate(0) // Otherwise its blocks are free when the last process closes it.
	// The directory, if it is empty: whoever makes a file just now makes it again.
	_ = os.Remove(filepath.Dir(path))
	return s.bytes
}

// punch frees bytes of a state's file, from a page on and round its end. It gives up where it cannot.
func punch(f *file, size, page, bytes int64) (freed int64) {
	const unit = writePages * PageSize
	before, _, err := f.blocks()
	if err != nil {
		return 0
	}
	first := pagesOffset(size)
	end := first + pagesIn(size)*PageSize
	start := min(first+page*PageSize, end)
	for _, part := range [][2]int64{{start, end}, {first, start}} {
		for pos := part[0]; pos < part[1] && freed < bytes; {
			data, err := f.Seek(pos, unix.SEEK_DATA)
			if err != nil || data >= part[1] {
				break
			}
			data = max(pos, data-(data-first)%unit)
			pos = min(data-(data-first)%unit+unit, part[1])
			// Before the pages, lest a reader trust what is not there: it would find it
			// damaged.
			page, pages := (data-first)/PageSize, pagesIn(pos-data)
			if _, err := f.WriteAt(make([]byte, pages*entrySize), entryOffset(page)); err != nil {
				return freed
			}
			if unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, data, pos-data) != nil {
				return freed
			}
			now, _, err := f.blocks()
			if err != nil {
				return freed
			}
			freed = before - now
		}
	}
	return freed
}
