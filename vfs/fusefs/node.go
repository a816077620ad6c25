package fusefs

import (
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cespare/xxhash/v2"
	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/tesserafs/tesserafs/vfs"
)

// Inode numbers. A file's is a hash of its parent's number and its name, so it is the same after a
// remount, and rsync, tar and backups see the same file.
//
// Two live nodes may get one number: with n of them the odds are n²/2⁶⁵, one in ten million for two
// million. go-fuse takes nodes with equal StableAttr for one and would then serve the bytes of the
// wrong file. So the generation, the other half of StableAttr, is a second hash over the parent's
// pair and the name. Then two nodes are taken for one only if 128 bits agree. A collision of the
// number alone is harmless: the kernel tells inodes apart by go-fuse's node ids, and tools compare
// numbers only of files with several links, which there are none of. Nothing needs to be remembered
// or bumped, and the number depends on nothing but the path.
//
// The generation of a file is also of the tree it is in: what lies at one path in two trees has one
// inode number, but the kernel takes it for two files, and keeps neither's bytes as the other's.
const rootIno = 1

func inodeNumber(parent uint64, name string) uint64 {
	var buf [8 + 256]byte
	b := append(binary.LittleEndian.AppendUint64(buf[:0], parent), name...)
	switch ino := xxhash.Sum64(b); ino {
	case 0, rootIno, ^uint64(0): // unknown, the root's, reserved by go-fuse
		return 2
	default:
		return ino
	}
}

// identity is what go-fuse tells nodes apart by. tree is the number of a file's tree, 0 for a directory.
func (s *Server) identity(parent gofs.StableAttr, name string, mode uint32, tree uint64) gofs.StableAttr {
	var buf [25 + 256]byte
	b := append(buf[:0], 'g')
	b = binary.LittleEndian.AppendUint64(b, parent.Ino)
	b = binary.LittleEndian.AppendUint64(b, parent.Gen)
	b = binary.LittleEndian.AppendUint64(b, tree)
	b = append(b, name...)
	return gofs.StableAttr{Mode: mode, Ino: s.ino(parent.Ino, name), Gen: xxhash.Sum64(b)}
}

// dirNode is a directory the kernel knows.
type dirNode struct {
	gofs.Inode
	s      *Server
	parent *dirNode // nil: the root
	name   string   // in parent
	at     atomic.Pointer[dirAt]

	mu     sync.Mutex          // guards absent
	absent map[string]struct{} // names the kernel keeps as not there
}

// fileNode is a file the kernel knows, of one tree.
type fileNode struct {
	gofs.Inode
	s    *Server
	g    *generation
	file vfs.File

	state *fileState // of volatile and big files; nil otherwise
}

var (
	_ gofs.NodeLookuper       = (*dirNode)(nil)
	_ gofs.NodeGetattrer      = (*dirNode)(nil)
	_ gofs.NodeOpendirHandler = (*dirNode)(nil)
	_ gofs.NodeStatfser       = (*dirNode)(nil)
	_ gofs.NodeGetxattrer     = (*dirNode)(nil)
	_ gofs.NodeListxattrer    = (*dirNode)(nil)
	_ gofs.NodeOnForgetter    = (*dirNode)(nil)
	_ gofs.NodeGetattrer      = (*fileNode)(nil)
	_ gofs.NodeOpener         = (*fileNode)(nil)
	_ gofs.NodeLseeker        = (*fileNode)(nil)
	_ gofs.NodeStatfser       = (*fileNode)(nil)
	_ gofs.NodeGetxattrer     = (*fileNode)(nil)
	_ gofs.NodeListxattrer    = (*fileNode)(nil)
	_ gofs.NodeOnForgetter    = (*fileNode)(nil)
)

func newDirNode(s *Server, parent *dirNode, name string, at *dirAt) *dirNode {
	n := &dirNode{s: s, parent: parent, name: name}
	n.at.Store(at)
	return n
}

// Lookup answers from the tree shown now, except for what is known of it already: trees do not change.
func (n *dirNode) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	at, errno := n.here(ctx)
	if errno != 0 {
		return nil, errno
	}
	if child := n.GetChild(name); child != nil {
		switch ops := child.Operations().(type) {
		case *dirNode:
			if is, err := ops.now(ctx); err == nil && is.dir != nil {
				ops.s.entry(is.dir.Attr(), out)
				return child, 0
			}
		case *fileNode:
			if ops.g == at.g {
				ops.s.entry(ops.attr(), out)
				return child, 0
			}
		}
	}
	node, err := at.dir.Lookup(ctx, name)
	if err != nil {
		errno := lookupErrno(ctx, err)
		if errno == syscall.ENOENT {
			n.miss(name, out)
		}
		return nil, errno
	}
	a := node.Attr()
	n.s.entry(a, out)
	switch node := node.(type) {
	case vfs.Dir:
		child := newDirNode(n.s, n, name, &dirAt{at.g, node})
		return n.NewInode(ctx, child, n.s.identity(n.StableAttr(), name, fuse.S_IFDIR, 0)), 0
	case vfs.File:
		child := &fileNode{s: n.s, g: at.g, file: node}
		if a.Volatile || a.Size >= directFrom {
			child.state = &fileState{size: a.Size}
		}
		return n.NewInode(ctx, child, n.s.identity(n.StableAttr(), name, fuse.S_IFREG, at.g.number)), 0
	default:
		n.s.log.Error("the tree has a node that is neither a file nor a directory", "name", name)
		return nil, syscall.EIO
	}
}

func (s *Server) entry(a vfs.Attr, out *fuse.EntryOut) {
	s.fill(a, &out.Attr)
	if !a.Volatile {
		out.SetEntryTimeout(timeout)
		out.SetAttrTimeout(timeout)
	}
}

// fill turns an Attr into what stat shows. Mode's type and the inode number are go-fuse's to add.
func (s *Server) fill(a vfs.Attr, out *fuse.Attr) {
	out.Size = uint64(a.Size)
	out.Blocks = uint64((a.Stored + 511) / 512)
	out.Blksize = blockSize
	out.Uid, out.Gid = s.uid, s.gid
	// One link for directories too says that subdirectories are not counted. Two would say that
	// there are none, and fts(3) would not go into them.
	out.Nlink = 1
	out.Mode = 0o444
	if a.Dir {
		out.Mode = 0o555
	}
	t := a.ModTime
	if t.IsZero() {
		t = time.Unix(0, 0)
	}
	out.SetTimes(&t, &t, &t)
}

func (n *dirNode) Getattr(ctx context.Context, _ gofs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	at, errno := n.here(ctx)
	if errno != 0 {
		return errno
	}
	return n.s.getattr(at.dir.Attr(), out)
}

func (n *fileNode) Getattr(_ context.Context, _ gofs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	return n.s.getattr(n.attr(), out)
}

func (s *Server) getattr(a vfs.Attr, out *fuse.AttrOut) syscall.Errno {
	s.fill(a, &out.Attr)
	if !a.Volatile {
		out.SetTimeout(timeout)
	}
	return 0
}

// Statfs shows a full file system of the configured size.
func (n *dirNode) Statfs(_ context.Context, out *fuse.StatfsOut) syscall.Errno {
	return n.s.statfs(out)
}

func (n *fileNode) Statfs(_ context.Context, out *fuse.StatfsOut) syscall.Errno {
	return n.s.statfs(out)
}

func (s *Server) statfs(out *fuse.StatfsOut) syscall.Errno {
	const unit = 4096
	*out = fuse.StatfsOut{Bsize: unit, Frsize: unit, NameLen: 255}
	if s.cfg.Size != nil {
		out.Blocks = uint64((max(s.cfg.Size(), 0) + unit - 1) / unit)
	}
	return 0
}

func (n *dirNode) Getxattr(ctx context.Context, name string, dest []byte) (uint32, syscall.Errno) {
	at, errno := n.here(ctx)
	if errno != 0 {
		return 0, errno
	}
	return getxattr(ctx, at.dir, name, dest)
}

func (n *fileNode) Getxattr(ctx context.Context, name string, dest []byte) (uint32, syscall.Errno) {
	return getxattr(ctx, n.file, name, dest)
}

func (n *dirNode) Listxattr(ctx context.Context, dest []byte) (uint32, syscall.Errno) {
	at, errno := n.here(ctx)
	if errno != 0 {
		return 0, errno
	}
	return listxattr(ctx, at.dir, dest)
}

func (n *fileNode) Listxattr(ctx context.Context, dest []byte) (uint32, syscall.Errno) {
	return listxattr(ctx, n.file, dest)
}

func getxattr(ctx context.Context, node vfs.Node, name string, dest []byte) (uint32, syscall.Errno) {
	x, ok := node.(vfs.Xattrs)
	if !ok {
		return 0, syscall.ENODATA
	}
	attrs, err := x.Xattrs(ctx)
	if err != nil {
		return 0, readErrno(ctx, err)
	}
	value, ok := attrs[name]
	if !ok {
		return 0, syscall.ENODATA
	}
	return give(dest, value)
}

func listxattr(ctx context.Context, node vfs.Node, dest []byte) (uint32, syscall.Errno) {
	x, ok := node.(vfs.Xattrs)
	if !ok {
		return 0, 0
	}
	attrs, err := x.Xattrs(ctx)
	if err != nil {
		return 0, readErrno(ctx, err)
	}
	var names []string
	for name := range attrs {
		names = append(names, name+"\x00")
	}
	slices.Sort(names)
	var list []byte
	for _, name := range names {
		list = append(list, name...)
	}
	return give(dest, string(list))
}

// give answers as getxattr(2) wants it: ERANGE and the size where it does not fit. A caller that
// asks with no room for the size alone gets it, go-fuse sees to that.
func give(dest []byte, value string) (uint32, syscall.Errno) {
	if len(dest) < len(value) {
		return uint32(len(value)), syscall.ERANGE
	}
	return uint32(copy(dest, value)), 0
}

// lookupErrno is the errno of a failed look-up or listing. ENOENT means that the name is not there,
// and nothing else: clients fill what is not there.
func lookupErrno(ctx context.Context, err error) syscall.Errno {
	if errors.Is(err, fs.ErrNotExist) && !errors.Is(err, vfs.ErrDamaged) &&
		!errors.Is(err, vfs.ErrTimeout) && !errors.Is(err, vfs.ErrChanged) {
		return syscall.ENOENT
	}
	return readErrno(ctx, err)
}

// readErrno is the errno of a failed read. It is never ENOENT, whatever the error is made of. EINTR
// is for callers that no longer wait; that others' work was given up is a failure to the rest.
func readErrno(ctx context.Context, err error) syscall.Errno {
	switch {
	case errors.Is(err, vfs.ErrChanged):
		return syscall.ESTALE
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		return syscall.EINTR
	default:
		return syscall.EIO
	}
}
