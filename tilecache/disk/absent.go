package disk

import (
	"os"
	"path/filepath"
)

// absent is what the link of an object leads to that its source does not have: nothing, by a name that
// fits no other object.
func absent(link string) string { return "absent-" + link }

// NoteAbsent keeps that the source has no object of a name, for who asks while it cannot be reached: Known
// finds no state then, and Absent says why. A state of which pages are kept takes the note's place.
func (c *Cache) NoteAbsent(source, name string) {
	if c.closed.Load() || !c.mayWrite() || c.Absent(source, name) {
		return
	}
	link := nameHash(source, name)
	// It takes no block of the disk, so nothing of the limit. Where it fails, nobody will know.
	err := putInPlace(filepath.Join(c.dir, place(link)), func(temporary string) error { return os.Symlink(absent(link), temporary) })
	if err != nil {
		c.log.Debug("that an object is not there cannot be noted", "object", name, "error", err)
	}
}

// Absent says whether the source had no object of a name when it was last asked, as far as that was noted.
func (c *Cache) Absent(source, name string) bool {
	link := nameHash(source, name)
	target, err := os.Readlink(filepath.Join(c.dir, place(link)))
	return err == nil && target == absent(link)
}
