package disk

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/tesserafs/tesserafs/tilecache/source"
)

// lookPages is of how many pages the entries are read at once by who looks for those that are missing.
const lookPages = 4096

// Missing are the numbers of the pages that do not seem to be kept, ascending. It takes a system call for
// 4,096 pages. Who asks wants the whole object, so it counts as used.
func (o *Object) Missing() []int64 {
	var missing []int64
	f := o.open()
	count := pagesIn(o.size)
	index := make([]byte, min(count, lookPages)*entrySize)
	for first := int64(0); first < count; first += lookPages {
		entries := index[:min(count-first, lookPages)*entrySize]
		got := 0
		if f != nil {
			// A file that ends early, or cannot be read, has no pages there.
			got, _ = f.ReadAt(entries, entryOffset(first))
		}
		for i := range len(entries) / entrySize {
			if (i+1)*entrySize > got || entryAt(entries, i) == 0 {
				missing = append(missing, first+int64(i))
			}
		}
	}
	if int64(len(missing)) < count {
		o.touch()
	}
	return missing
}

// Held is how many bytes seem to be kept of an object, in the state that Known gives, which counts as used
// then; ok is false where none is known.
func (c *Cache) Held(source, name string) (info source.Info, bytes int64, ok bool) {
	info, ok = c.Known(source, name)
	if !ok {
		return unknown, 0, false
	}
	o, err := c.Object(source, name, info)
	if err != nil {
		return unknown, 0, false
	}
	defer o.Close()
	bytes = info.Size
	for _, page := range o.Missing() {
		bytes -= min(PageSize, info.Size-page*PageSize)
	}
	return info, bytes, true
}

// fansTake is what directories take beside what is in them: 257 blocks, and some to spare.
const fansTake = 2 << 20

// Takes is how many bytes of a disk an object takes, all of it kept, on a filesystem with blocks of 4 KiB.
func Takes(size int64) int64 {
	const block = 4096
	blocks := (entryOffset(pagesIn(size)) + block - 1) / block
	blocks += (size + block - 1) / block
	return (blocks + 2) * block // the filesystem's own notes of where they lie
}

// LimitFor is the least limit at which objects that take so many bytes are kept together, whatever else
// there was before: it may have to make room for them, which it does down to 90 % of the limit.
func LimitFor(takes int64) int64 { return (takes+maxStep+fansTake)/9*10 + 10 }

// Free is how many bytes the disk has left for this user.
func (c *Cache) Free() (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(c.dir, &st); err != nil {
		return 0, fmt.Errorf("cache directory %s: %w", c.dir, err)
	}
	return int64(st.Bavail) * st.Frsize, nil
}
