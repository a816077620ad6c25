package catalogue

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/tesserafs/tesserafs/tilecache/source"
)

// directories are the names of directories in those that tell which layouts there are, by path below
// the archive's top. It is what is kept of an archive's directories.
type directories map[string][]string

// list is as the source's.
func (d directories) list(dir string) ([]source.Entry, error) {
	names, ok := d[dir]
	if !ok {
		return nil, fmt.Errorf("%s: %w", dir, fs.ErrNotExist)
	}
	var entries []source.Entry
	for _, name := range names {
		entries = append(entries, source.Entry{Name: name, Dir: true})
	}
	return entries, nil
}

// add notes a directory, and those it lies in.
func (d directories) add(path string) {
	dir := "."
	for _, name := range strings.Split(path, "/") {
		if !slices.Contains(d[dir], name) {
			d[dir] = append(d[dir], name)
			slices.Sort(d[dir])
		}
		if dir == "." {
			dir = name
		} else {
			dir += "/" + name
		}
		if d[dir] == nil {
			d[dir] = []string{}
		}
	}
}

// discover finds out where datasets may lie: by listing, where the source can, by asking for what
// archives have, where it cannot, and otherwise from what was found the last time.
func (o *opener) discover(ctx context.Context) ([]place, error) {
	note := "directories of " + strings.Join(o.candidates, " ")
	var why error
	if !o.copies.offline {
		dirs, err := o.survey(ctx)
		if err == nil {
			places, err := findPlaces(dirs.list)
			if err == nil && len(places) > 0 {
				o.copies.note(note, dirs)
			}
			return places, err
		}
		if o.copies.dir == "" || !unreachable(ctx, err) {
			return nil, err
		}
		why = err
	}
	dirs := make(directories)
	since, ok := o.copies.recall(ctx, note, &dirs)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case !ok && why == nil:
		return nil, o.copies.notKept()
	case !ok:
		return nil, why
	}
	for dir, names := range dirs {
		if !fs.ValidPath(dir) || !slices.ContainsFunc(names, isName) && len(names) > 0 {
			return nil, fmt.Errorf("what is kept of its directories in %s is damaged: remove that directory", o.copies.dir)
		}
		dirs[dir] = slices.DeleteFunc(names, func(name string) bool { return !isName(name) })
	}
	o.stale = o.copies.staleSince("its directories", since, why)
	return findPlaces(dirs.list)
}

// isName says whether a name is that of one thing in a directory.
func isName(name string) bool {
	return fs.ValidPath(name) && name != "." && !strings.ContainsAny(name, "/\x00")
}

// survey finds the directories that tell which layouts there are.
func (o *opener) survey(ctx context.Context) (directories, error) {
	dirs := make(directories)
	_, err := findPlaces(func(dir string) ([]source.Entry, error) {
		entries, err := o.src.List(ctx, dir, false)
		if err != nil {
			return nil, err
		}
		dirs[dir] = []string{}
		for _, e := range entries {
			if e.Dir {
				dirs[dir] = append(dirs[dir], e.Name)
			}
		}
		return dirs.list(dir)
	})
	if errors.Is(err, errors.ErrUnsupported) {
		p := &prober{opener: o, dirs: directories{".": {}}}
		return p.dirs, p.probe(ctx)
	}
	return dirs, err
}
