// Package vfs is the contract between what makes files and what shows them: a read-only tree of
// directories and files whose bytes are made as they are read.
//
// # Objective
//
// A tree (package synth, or any other) says what exists; a front door (vfs/fusefs, and whatever
// comes after it) shows it. Neither knows the other: a front door knows no Zarr, a tree no FUSE.
// Whatever passes vfs/vfstest on one side works with all that pass it on the other.
//
// # What a tree guarantees
//
//   - The tree never changes while it is shown, except files whose Attr says Volatile.
//   - Attr is exact and cheap: sizes and times are known before a byte is made.
//   - A directory lists what exists and nothing else. What Lookup finds need not be listed
//     (status files are found by name, never listed); what is listed is always found.
//   - All methods may be called by many goroutines at once.
//   - ReadAt is right or fails. It never answers with fill because something went wrong.
//
// # What a front door guarantees
//
//   - The context of a call ends when its caller no longer waits. A tree stops waiting then;
//     work shared with other callers goes on.
//   - Errors come from reads, never from opens: some Zarr clients take a failed open for a chunk
//     that does not exist, and fill it.
//   - Errors are told apart with errors.Is against the values below and those of io/fs.
//
// # Helpers
//
// [FS] is the io/fs view of a tree, [Walk] finds a node by its path, [Snapshot] reads a volatile
// file as of one moment.
package vfs

import (
	"context"
	"errors"
	"time"
)

// What a read can fail with. Everything else a tree returns is a fault of its own (EIO).
var (
	// ErrDamaged: the data that the bytes are made of is listed, but missing, truncated or not
	// what its format says (EIO, HTTP 502).
	ErrDamaged = errors.New("damaged or missing data")

	// ErrTimeout: the data did not come in time, retries included (EIO, HTTP 504).
	ErrTimeout = errors.New("timed out")

	// ErrChanged: the data is no longer what it was when it was first seen (ESTALE, HTTP 409).
	ErrChanged = errors.New("changed since it was first seen")
)

// Attr says what a node is.
type Attr struct {
	Dir     bool
	Size    int64     // bytes a reader gets; 0 for a directory
	Stored  int64     // bytes of Size that are not holes; what du counts
	ModTime time.Time // of the newest data it is made of
	// Volatile: content and size change while the tree is shown (a status file). Front doors
	// must not keep it.
	Volatile bool
}

// Node is a Dir or a File.
type Node interface {
	Attr() Attr
}

// Dir is a directory.
type Dir interface {
	Node

	// Lookup finds the entry of that name, listed or not; fs.ErrNotExist where there is none.
	Lookup(ctx context.Context, name string) (Node, error)

	// List says what the directory shows, in an order that stays the same.
	List(ctx context.Context) (Listing, error)
}

// Listing is the content of a directory by position, so that a reader can stop and go on.
type Listing interface {
	Len() int
	At(i int) Entry
}

// Entry is one name in a directory.
type Entry struct {
	Name string
	Dir  bool
}

// Entries is a Listing in memory.
type Entries []Entry

func (e Entries) Len() int       { return len(e) }
func (e Entries) At(i int) Entry { return e[i] }

// File is a file.
type File interface {
	Node

	// ReadAt fills p from offset off, as io.ReaderAt: fewer bytes than len(p) only with an
	// error, io.EOF at the end of the file.
	ReadAt(ctx context.Context, p []byte, off int64) (int, error)
}

// Sparse is a File with holes: runs that read as zeros because nothing is there.
type Sparse interface {
	File

	// NextData returns the first offset at or after off that holds data, or Size when there is
	// none; NextHole the first that lies in a hole, or Size (the end of a file counts as a hole,
	// as lseek(2) has it). Both may be asked for 0 <= off < Size.
	NextData(off int64) int64
	NextHole(off int64) int64
}

// Checker is a File that can say whether the bytes a reader had are still those. A front door that
// keeps bytes (in the page cache, in a copy of its own) asks whenever the file is opened, before it
// serves kept bytes again; on an error it serves none of them, so that the reads reach the tree and
// fail as they should. It must be cheap: a stat for each thing the file is made of, no data.
type Checker interface {
	File

	// Check returns nil, or what a read would fail with because the data is no longer the same
	// (ErrChanged, ErrDamaged), or an error of its own when it cannot tell.
	Check(ctx context.Context) error
}

// Xattrs is a Node with extended attributes. Names are whole ("user.tesserafs.tiles").
type Xattrs interface {
	Node
	Xattrs(ctx context.Context) (map[string]string, error)
}
