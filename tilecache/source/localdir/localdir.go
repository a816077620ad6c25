// Package localdir is a directory of this machine as a source of tiles.
//
// # Objective
//
// The page cache is the cache of local tiles, so this room keeps nothing of its own: an object is an
// open file, and a read is a pread.
//
// # Which file a name is
//
// A name is checked by io/fs's rules and joined to the directory's path. So it cannot climb out
// with "..", and names are made by this project from cells and years, never taken from a manifest.
// Symbolic links are followed wherever they point: mirrors spread an archive over several disks
// with them, and who may write into the archive may write the tiles anyway. An object is a regular
// file; anything else under its name (a directory, a pipe, a device) is an error, and opening it
// does not block.
//
// # What is noticed
//
// An object is pinned to the size, modification time, device and inode it had when it was opened.
// Check asks the open file on every call (fstat, about 0.3 µs): rewriting and truncation in place
// are noticed by the next read. It asks the path at most once a second: a tile that is replaced or
// deleted is noticed within a second, and until then the old bytes are served whole, because they
// are still there under the open file. ReadAt checks after it has read, so bytes it returns are of
// the state that was opened. Once changed, an object stays changed.
//
// The limit of all this is the clock of the file system: a tile rewritten with the same size twice
// within one tick (4 ms before Linux 6.13) or given its old time back by force looks the same.
//
// Files are closed on exec. Calls look at their context before they begin: a read of a local file
// cannot be interrupted.
package localdir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tesserafs/tesserafs/tilecache/source"
)

var _ source.Source = (*Source)(nil)

// Source is a directory. It holds no open files of its own.
type Source struct {
	root string // absolute
}

// Open takes a directory as a source. It fails where the directory is not there, is not one or may
// not be read.
func Open(dir string) (*Source, error) {
	if dir == "" {
		return nil, fmt.Errorf("no directory named: name the top directory of the archive: %w", fs.ErrInvalid)
	}
	root, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	f, err := os.OpenFile(root, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK, 0)
	if err == nil {
		defer f.Close()
		if _, err = f.Readdirnames(1); errors.Is(err, io.EOF) {
			err = nil // An empty directory is readable.
		}
	}
	if err == nil {
		// Listing needs the right to read, opening what is inside the right to search.
		_, err = os.Stat(root + "/.")
	}
	switch {
	case err == nil:
		return &Source{root: root}, nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s: there is no such directory: check the path, and whether its disk is mounted: %w", root, fs.ErrNotExist)
	case errors.Is(err, unix.ENOTDIR):
		return nil, fmt.Errorf("%s: not a directory: name the top directory of the archive: %w", root, unix.ENOTDIR)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%s: may not be read by this user: run as its owner, or give the right with chmod -R a+rX: %w", root, fs.ErrPermission)
	}
	return nil, fmt.Errorf("%s: cannot be read: %w", root, explain(err))
}

// String is the absolute path of the directory.
func (s *Source) String() string { return s.root }

// Open opens a regular file. Its errors name the file's path.
func (s *Source) Open(ctx context.Context, name string) (source.Object, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	if name == "." {
		return nil, fmt.Errorf("open %q: the directory itself is no object: %w", name, fs.ErrInvalid)
	}
	path, err := s.path(name)
	if err != nil {
		return nil, err
	}
	// Without O_NONBLOCK opening a pipe waits for its writer.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, notThere(path, err)
	}
	o, err := newObject(f, path)
	if err != nil {
		f.Close()
		return nil, err
	}
	return o, nil
}

// path is where a name lies.
func (s *Source) path(name string) (string, error) {
	if !fs.ValidPath(name) || strings.IndexByte(name, 0) >= 0 {
		return "", fmt.Errorf("%q: not a path below the source: %w", name, fs.ErrInvalid)
	}
	return filepath.Join(s.root, name), nil
}

// notThere words an error of open. A path that leads through a file leads nowhere, as in a bucket.
func notThere(path string, err error) error {
	if errors.Is(err, unix.ENOTDIR) {
		return fmt.Errorf("%s: part of the path is not a directory: %w", path, fs.ErrNotExist)
	}
	return explain(err)
}

// explain adds what to do to the errors that are about this process rather than about a file.
func explain(err error) error {
	if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) {
		return fmt.Errorf("%w: raise the limit (ulimit -n) or keep fewer objects open", err)
	}
	return err
}

// infoOf is the state of a file that its Info tells.
func infoOf(st *unix.Stat_t) source.Info {
	return source.Info{Size: st.Size, ModTime: time.Unix(st.Mtim.Unix())}
}
