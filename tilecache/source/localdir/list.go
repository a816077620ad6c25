package localdir

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/tesserafs/tesserafs/tilecache/source"
)

const (
	listBatch   = 4096 // names read and looked at together
	listWorkers = 16   // batches looked at at once; on network disks it is waiting that takes the time
)

// List reads a directory. A flat archive has 1.6 million names in one, so names alone cost no look
// at any file, except symbolic links, which are followed to see whether they are directories; with
// info every file is looked at, in parallel.
//
// A link that leads nowhere is listed as an object without Info: it says that there should be a
// tile, and opening it fails. A file that is deleted while the directory is read is left out.
func (s *Source) List(ctx context.Context, name string, withInfo bool) ([]source.Entry, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("list %s: %w", name, err)
	}
	path, err := s.path(name)
	if err != nil {
		return nil, err
	}
	dir, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, notThere(path, err)
	}
	defer dir.Close()
	batches, err := readBatches(ctx, dir, withInfo)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", path, err)
	}
	return merge(batches), nil
}

// readBatches reads a directory in batches, each sorted. While one is read, those before it are
// looked at and sorted. The name of a file that was deleted meanwhile is empty.
func readBatches(ctx context.Context, dir *os.File, withInfo bool) ([][]source.Entry, error) {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(listWorkers)
	fd := int(dir.Fd())
	var batches [][]source.Entry
	var readErr error
	for readErr == nil && ctx.Err() == nil {
		var found []fs.DirEntry
		found, readErr = dir.ReadDir(listBatch)
		batch := make([]source.Entry, len(found))
		batches = append(batches, batch)
		group.Go(func() error {
			for i, e := range found {
				batch[i] = source.Entry{Name: e.Name(), Dir: e.IsDir()}
			}
			err := stat(ctx, fd, found, batch, withInfo)
			slices.SortFunc(batch, func(a, b source.Entry) int { return strings.Compare(a.Name, b.Name) })
			return err
		})
	}
	stopped := ctx.Err()
	if err := group.Wait(); err != nil {
		return nil, err
	}
	if stopped != nil {
		return nil, stopped
	}
	if !errors.Is(readErr, io.EOF) {
		return nil, readErr
	}
	return batches, nil
}

// merge makes one listing of sorted batches, without the empty names. Merging keeps to the caches
// where sorting 1.6 million names at once does not: it takes half the time.
func merge(batches [][]source.Entry) []source.Entry {
	var todo fronts
	n := 0
	for _, b := range batches {
		for len(b) > 0 && b[0].Name == "" {
			b = b[1:]
		}
		if len(b) > 0 {
			todo = append(todo, b)
			n += len(b)
		}
	}
	heap.Init(&todo)
	all := make([]source.Entry, 0, n)
	for len(todo) > 0 {
		all = append(all, todo[0][0])
		if todo[0] = todo[0][1:]; len(todo[0]) > 0 {
			heap.Fix(&todo, 0)
		} else {
			heap.Pop(&todo)
		}
	}
	return all
}

// fronts is a heap of sorted batches, none of them empty, ordered by their first names.
type fronts [][]source.Entry

func (f fronts) Len() int           { return len(f) }
func (f fronts) Less(i, j int) bool { return f[i][0].Name < f[j][0].Name }
func (f fronts) Swap(i, j int)      { f[i], f[j] = f[j], f[i] }
func (f *fronts) Push(b any)        { *f = append(*f, b.([]source.Entry)) }
func (f *fronts) Pop() any {
	last := len(*f) - 1
	b := (*f)[last]
	*f = (*f)[:last]
	return b
}

// stat looks at the files of a batch whose kind or info is wanted, following links. The names of
// those that are no longer there become empty.
func stat(ctx context.Context, dirfd int, found []fs.DirEntry, batch []source.Entry, withInfo bool) error {
	for i, e := range found {
		if !isLink(e) && (e.IsDir() || !withInfo) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		var st unix.Stat_t
		err := ignoreEINTR(func() error { return unix.Fstatat(dirfd, e.Name(), &st, 0) })
		switch {
		case err != nil && isLink(e):
			// It leads nowhere, or nowhere this user may go.
		case errors.Is(err, unix.ENOENT):
			batch[i].Name = ""
		case err != nil:
			return fmt.Errorf("stat %s: %w", e.Name(), err)
		case st.Mode&unix.S_IFMT == unix.S_IFDIR:
			batch[i].Dir = true
		case withInfo:
			batch[i].Info = infoOf(&st)
		}
	}
	return nil
}

func isLink(e fs.DirEntry) bool { return e.Type()&fs.ModeSymlink != 0 }
