package fusefs

import (
	"context"
	"sync/atomic"
	"syscall"

	"github.com/tesserafs/tesserafs/vfs"
)

// generation is one of the trees that a mount shows one after another (package doc, "Another tree").
type generation struct {
	number  uint64 // 0 for the tree that was mounted, then ascending
	root    vfs.Dir
	settled atomic.Bool // the kernel keeps nothing of the tree before

	// lookups are the requests under way that may show the kernel a node of this tree. Once it has
	// ended, all that the kernel may know of the tree hangs in go-fuse's nodes.
	lookups *count

	// users are the files and directories that are open, and the copies being made. Once it has
	// ended, nothing calls the tree any more.
	users *count
}

func newGeneration(number uint64, root vfs.Dir) *generation {
	return &generation{number: number, root: root, lookups: newCount(), users: newCount()}
}

// count is how often something is in use. It begins with one use, its owner's, and ends for good when
// the last is over.
type count struct {
	n     atomic.Int64
	ended chan struct{}
}

func newCount() *count {
	c := &count{ended: make(chan struct{})}
	c.n.Store(1)
	return c
}

// enter begins a use, unless the count has ended.
func (c *count) enter() bool {
	for n := c.n.Load(); n > 0; n = c.n.Load() {
		if c.n.CompareAndSwap(n, n+1) {
			return true
		}
	}
	return false
}

// leave ends a use.
func (c *count) leave() {
	if c.n.Add(-1) == 0 {
		close(c.ended)
	}
}

// lookup begins a request that may show the kernel nodes of the tree shown now, or of a later one. Its
// end is a leave of the generation's lookups.
func (s *Server) lookup() *generation {
	for {
		if g := s.shown.Load(); g.lookups.enter() {
			return g
		}
	}
}

// replaced tells whether the file is of a tree that is not shown any more.
func (n *fileNode) replaced() bool { return n.g != n.s.shown.Load() }

// dirAt is what a directory is in one tree.
type dirAt struct {
	g   *generation
	dir vfs.Dir // nil: there is no such directory
}

// now returns what the directory is in the tree shown now. A directory keeps its node for as long as the
// kernel knows it, whatever tree is shown, so that those who are in it stay in it; what it is in
// another tree is found out, by its name in its parent, when somebody asks.
func (n *dirNode) now(ctx context.Context) (*dirAt, error) {
	g := n.s.shown.Load()
	for {
		was := n.at.Load()
		if was.g.number >= g.number {
			return was, nil
		}
		is, err := n.find(ctx, g)
		if err != nil {
			return nil, err
		}
		n.at.CompareAndSwap(was, is) // otherwise somebody else was quicker
	}
}

// find looks the directory up in a tree, or in a later one that is shown by now.
func (n *dirNode) find(ctx context.Context, g *generation) (*dirAt, error) {
	if n.parent == nil {
		return &dirAt{g, g.root}, nil
	}
	parent, err := n.parent.now(ctx)
	if err != nil {
		return nil, err
	}
	is := &dirAt{g: parent.g}
	if parent.dir == nil {
		return is, nil
	}
	node, err := parent.dir.Lookup(ctx, n.name)
	if err != nil && lookupErrno(ctx, err) != syscall.ENOENT {
		return nil, err
	}
	is.dir, _ = node.(vfs.Dir)
	return is, nil
}

// here is now, for a request. ESTALE makes the kernel look the path up again; it reaches those who sit in
// a directory that is gone.
func (n *dirNode) here(ctx context.Context) (*dirAt, syscall.Errno) {
	at, err := n.now(ctx)
	switch {
	case err != nil:
		return nil, readErrno(ctx, err)
	case at.dir == nil:
		return nil, syscall.ESTALE
	}
	return at, 0
}
