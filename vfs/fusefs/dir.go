package fusefs

import (
	"context"
	"syscall"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/tesserafs/tesserafs/vfs"
)

// dirHandle is an open directory, which goes on with the tree it was opened in until it is read from its
// beginning again. go-fuse locks it for each call.
//
// Positions 0 and 1 are "." and "..", position i+2 is entry i, and the offset that follows an entry is
// the position after it, with the number of the tree above it: the kernel puts together the listing it
// keeps of what its readers got, by these offsets, and must not put together those of two trees.
type dirHandle struct {
	n    *dirNode
	at   *dirAt      // nil: not found yet
	list vfs.Listing // nil until it is first read, as errors come from reads
	pos  uint64
	ent  fuse.DirEntry
}

const (
	positionBits = 40 // of an offset
	treeBits     = 22 // of an offset, which must not be negative
)

var (
	_ gofs.FileReaddirenter = (*dirHandle)(nil)
	_ gofs.FileSeekdirer    = (*dirHandle)(nil)
	_ gofs.FileReleasedirer = (*dirHandle)(nil)
)

// OpendirHandle lets the kernel keep the listing, as the directories of a tree do not change; but not while
// the listing it keeps may still be of the tree before.
func (n *dirNode) OpendirHandle(ctx context.Context, _ uint32) (gofs.FileHandle, uint32, syscall.Errno) {
	h := &dirHandle{n: n}
	errno := h.follow(ctx)
	switch {
	case errno == syscall.ESTALE:
		return nil, 0, errno
	case errno != 0 || !h.at.g.settled.Load():
		return h, 0, 0
	}
	return h, fuse.FOPEN_CACHE_DIR | fuse.FOPEN_KEEP_CACHE, 0
}

// follow goes over to the tree shown now.
func (h *dirHandle) follow(ctx context.Context) syscall.Errno {
	for {
		at, errno := h.n.here(ctx)
		if errno != 0 {
			return errno
		}
		if h.at != nil && h.at.g == at.g {
			return 0
		}
		if at.g.users.enter() {
			h.leave()
			h.at = at
			return 0
		}
	}
}

func (h *dirHandle) leave() {
	if h.at != nil {
		h.at.g.users.leave()
		h.at, h.list = nil, nil
	}
}

func (h *dirHandle) Releasedir(context.Context, uint32) { h.leave() }

// tree is the part of an offset that tells trees apart.
func (at *dirAt) tree() uint64 { return at.g.number % (1 << treeBits) << positionBits }

func (h *dirHandle) Seekdir(ctx context.Context, off uint64) syscall.Errno {
	h.pos = off % (1 << positionBits)
	of := off - h.pos
	if h.pos == 0 || h.at != nil && of == h.at.tree() {
		return 0
	}
	// The kernel had what came before from another reader, who was quicker to see a new tree.
	if errno := h.follow(ctx); errno != 0 {
		return errno
	}
	if of != h.at.tree() {
		return syscall.ESTALE // a tree that came and went meanwhile
	}
	return 0
}

func (h *dirHandle) Readdirent(ctx context.Context) (*fuse.DirEntry, syscall.Errno) {
	if h.pos == 0 || h.at == nil {
		if errno := h.follow(ctx); errno != 0 {
			return nil, errno
		}
	}
	if h.list == nil {
		list, err := h.at.dir.List(ctx)
		if err != nil {
			return nil, readErrno(ctx, err)
		}
		h.list = list
	}
	id := h.n.StableAttr()
	switch {
	case h.pos == 0:
		h.ent = fuse.DirEntry{Name: ".", Ino: id.Ino, Mode: fuse.S_IFDIR}
	case h.pos == 1:
		ino := id.Ino
		if h.n.parent != nil {
			ino = h.n.parent.StableAttr().Ino
		}
		h.ent = fuse.DirEntry{Name: "..", Ino: ino, Mode: fuse.S_IFDIR}
	case h.pos-2 >= uint64(h.list.Len()):
		return nil, 0
	default:
		e := h.list.At(int(h.pos - 2))
		h.ent = fuse.DirEntry{Name: e.Name, Ino: h.n.s.ino(id.Ino, e.Name), Mode: fuse.S_IFREG}
		if e.Dir {
			h.ent.Mode = fuse.S_IFDIR
		}
	}
	h.pos++
	h.ent.Off = h.at.tree() + h.pos
	return &h.ent, 0
}
