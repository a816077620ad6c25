// Package memfs is a tree in memory: files of bytes that behave, or misbehave, as told. Front doors
// are tested with it, and it runs through vfs/vfstest like any other tree.
//
// [New] takes files by path and makes the directories between them. What a [File] is asked to be
// decides which of the optional interfaces of package vfs it has: with Block it is a vfs.Sparse. Every
// file is a vfs.Xattrs and a vfs.Checker.
//
// Misbehaviour is a [Hook], called before each read: it may wait, fail or panic. [Fail], [Wait] and
// [Panic] make the usual ones.
package memfs

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/tesserafs/tesserafs/vfs"
)

// Hook runs before each read of n bytes at off. The read fails with what it returns.
type Hook func(ctx context.Context, off int64, n int) error

// Fail makes every read fail.
func Fail(err error) Hook {
	return func(context.Context, int64, int) error { return err }
}

// Wait makes every read wait until gate is closed, or its caller no longer waits.
func Wait(gate <-chan struct{}) Hook {
	return func(ctx context.Context, _ int64, _ int) error {
		select {
		case <-gate:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Panic makes every read panic.
func Panic(v any) Hook {
	return func(context.Context, int64, int) error { panic(v) }
}

// Epoch is the ModTime of files that name none.
var Epoch = time.Date(2024, 2, 29, 12, 34, 56, 789_000_000, time.UTC)

// New makes a tree of files by slash-separated path. A path that ends in a slash is an empty
// directory. It panics on paths that are not valid by io/fs's rules, or that are both a file and a
// directory: they are faults of the test.
func New(files map[string]File) vfs.Dir {
	root := &dir{nodes: map[string]vfs.Node{}}
	for path, file := range files {
		parent, name := root, strings.TrimSuffix(path, "/")
		if !fs.ValidPath(name) || name == "." {
			panic(fmt.Sprintf("memfs: invalid path %q", path))
		}
		for {
			first, rest, deeper := strings.Cut(name, "/")
			if !deeper {
				break
			}
			parent, name = parent.child(first), rest
		}
		switch {
		case strings.HasSuffix(path, "/"):
			parent.child(name)
		case parent.nodes[name] != nil:
			panic(fmt.Sprintf("memfs: %q is a file and a directory", path))
		default:
			node := newFile(file)
			parent.nodes[name] = node
			if !file.Hidden {
				parent.list = append(parent.list, vfs.Entry{Name: name})
			}
		}
	}
	root.finish()
	return root
}

// dir is a directory.
type dir struct {
	nodes   map[string]vfs.Node
	list    vfs.Entries
	modTime time.Time
}

func (d *dir) Attr() vfs.Attr { return vfs.Attr{Dir: true, ModTime: d.modTime} }

func (d *dir) Lookup(ctx context.Context, name string) (vfs.Node, error) {
	node, ok := d.nodes[name]
	if !ok {
		return nil, fmt.Errorf("memfs: %q: %w", name, fs.ErrNotExist)
	}
	return node, nil
}

func (d *dir) List(ctx context.Context) (vfs.Listing, error) { return d.list, nil }

// child returns the directory of that name, making it where it is missing.
func (d *dir) child(name string) *dir {
	node, ok := d.nodes[name]
	if !ok {
		node = &dir{nodes: map[string]vfs.Node{}}
		d.nodes[name] = node
		d.list = append(d.list, vfs.Entry{Name: name, Dir: true})
	}
	sub, ok := node.(*dir)
	if !ok {
		panic(fmt.Sprintf("memfs: %q is a file and a directory", name))
	}
	return sub
}

// finish sorts the listings and dates the directories by their newest file.
func (d *dir) finish() {
	slices.SortFunc(d.list, func(a, b vfs.Entry) int { return strings.Compare(a.Name, b.Name) })
	d.modTime = Epoch
	for _, node := range d.nodes {
		if sub, ok := node.(*dir); ok {
			sub.finish()
		}
		if t := node.Attr().ModTime; t.After(d.modTime) {
			d.modTime = t
		}
	}
}
