package vfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
)

// Walk finds the node at a slash-separated path below root, valid by io/fs's rules ("." is root
// itself). Errors are *fs.PathError around fs.ErrInvalid, fs.ErrNotExist (also where the path goes
// through a file), or what a Lookup failed with.
func Walk(ctx context.Context, root Dir, path string) (Node, error) {
	if !fs.ValidPath(path) {
		return nil, &fs.PathError{Op: "walk", Path: path, Err: fs.ErrInvalid}
	}
	var node Node = root
	if path == "." {
		return node, nil
	}
	for name := range strings.SplitSeq(path, "/") {
		dir, ok := node.(Dir)
		if !ok {
			return nil, &fs.PathError{Op: "walk", Path: path, Err: fs.ErrNotExist}
		}
		next, err := dir.Lookup(ctx, name)
		if err != nil {
			return nil, &fs.PathError{Op: "walk", Path: path, Err: err}
		}
		node = next
	}
	return node, nil
}

// maxSnapshot bounds what Snapshot reads. Volatile files are reports, not data.
const maxSnapshot = 64 << 20

// Snapshot returns the whole content of a volatile file as of one moment: the answer of a single
// ReadAt that reached the end, since between two of them the content may be another. A front door
// takes one at each open and serves that, so that a reader gets one state and its size.
func Snapshot(ctx context.Context, f File) ([]byte, error) {
	size := min(max(f.Attr().Size, 0), maxSnapshot) + 4096
	for {
		buf := make([]byte, size)
		n, err := f.ReadAt(ctx, buf, 0)
		if errors.Is(err, io.EOF) {
			return buf[:n], nil
		}
		if err != nil {
			return nil, err
		}
		if size > maxSnapshot {
			return nil, fmt.Errorf("volatile file is larger than %d MiB", maxSnapshot>>20)
		}
		size *= 2
	}
}
