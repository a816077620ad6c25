package fusefs

import (
	"context"
	"syscall"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/tesserafs/tesserafs/vfs"
)

// dirHandle is an open directory. Positions 0 and 1 are "." and "..", position i+2 is entry i, and
// the offset that follows an entry is the position after it. go-fuse locks it for each call.
type dirHandle struct {
	n    *dirNode
	list vfs.Listing // nil until it is first read, as errors come from reads
	pos  uint64
	ent  fuse.DirEntry
}

var (
	_ gofs.FileReaddirenter = (*dirHandle)(nil)
	_ gofs.FileSeekdirer    = (*dirHandle)(nil)
)

// OpendirHandle lets the kernel keep the listing: directories do not change.
func (n *dirNode) OpendirHandle(context.Context, uint32) (gofs.FileHandle, uint32, syscall.Errno) {
	return &dirHandle{n: n}, fuse.FOPEN_CACHE_DIR | fuse.FOPEN_KEEP_CACHE, 0
}

func (h *dirHandle) Seekdir(_ context.Context, off uint64) syscall.Errno {
	h.pos = off
	return 0
}

func (h *dirHandle) Readdirent(ctx context.Context) (*fuse.DirEntry, syscall.Errno) {
	if h.list == nil {
		list, err := h.n.dir.List(ctx)
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
		if _, parent := h.n.Parent(); parent != nil {
			ino = parent.StableAttr().Ino
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
	h.ent.Off = h.pos
	return &h.ent, 0
}
