package fusefs

import (
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/tesserafs/tesserafs/vfs"
)

const (
	// maxAbsent bounds how many names the kernel keeps as not there, as each is remembered here: about
	// 25 MB.
	maxAbsent = 1 << 18

	// arrival is how long answers just given may take to reach the kernel's memory before it is told
	// to drop them. Up to Linux 6.18 it waits by itself for look-ups under way in a directory; from
	// 6.19 on it does not for names it has not stored yet.
	arrival = 100 * time.Millisecond
)

// Replace shows another tree from now on. When it returns, the kernel has dropped what it kept of the
// tree before (names, absences, attributes, listings, bytes), so that every look-up, stat, listing and open
// is of the new one. Files and directories that are open go on as they were opened, and whoever sits in a
// directory stays in it, and sees the new one from there, or ESTALE for as long as there is none. Paths
// keep their inode numbers.
//
// The tree replaced is in use until released is closed, which is when nothing of it is open any more. The
// end of the mount does not close it.
//
// Replace takes about 0.1 s and 10 µs for each file the kernel knows; look-ups that the tree before does not
// answer make it wait. One that is under way when the mount ends returns at once.
func (s *Server) Replace(root vfs.Dir) (released <-chan struct{}) {
	s.replacing.Lock()
	defer s.replacing.Unlock()
	before := s.shown.Load()
	after := newGeneration(before.number+1, root)
	s.shown.Store(after)

	before.lookups.leave()
	select {
	case <-before.lookups.ended:
	case <-s.running.Done():
		return before.users.ended
	}
	select {
	case <-time.After(arrival):
		s.takeBack(s.root)
		after.settled.Store(true)
	case <-s.running.Done():
	}
	before.users.leave()
	return before.users.ended
}

// takeBack lets the kernel drop what it keeps of a directory and of all below. It tells whether the directory
// is still there. While it waits for the kernel no lock may be held: the kernel may wait for a look-up.
func (s *Server) takeBack(n *dirNode) bool {
	for name := range n.forgetAbsent() {
		s.told(n.NotifyEntry(name))
	}
	g := s.shown.Load()
	for name, child := range n.Children() {
		if s.ending.Load() {
			return true
		}
		switch ops := child.Operations().(type) {
		case *dirNode:
			if !s.takeBack(ops) {
				s.told(n.NotifyEntry(name))
			}
		case *fileNode:
			if ops.g != g {
				s.told(n.NotifyEntry(name))
			}
		}
	}
	// Whatever the name, the kernel first waits for listings under way in the directory, so that no part of
	// an old one comes to be kept after this.
	s.told(n.NotifyEntry("."))
	s.told(n.NotifyContent(0, 0))
	return s.isThere(n)
}

// isThere asks the tree shown now for a directory. One that cannot be found out about is best looked up
// again by whoever wants it.
func (s *Server) isThere(n *dirNode) (is bool) {
	defer func() {
		if v := recover(); v != nil {
			s.logPanic(v)
			is = false
		}
	}()
	at, err := n.now(s.running)
	return err == nil && at.dir != nil
}

// told takes the kernel's answer to a notice. ENOENT says that it did not know the name or node any more.
func (s *Server) told(errno syscall.Errno) {
	if errno != 0 && errno != syscall.ENOENT && !s.ending.Load() {
		s.log.Warn("the kernel does not drop what it knows of a replaced tree; it may show it for an hour", "reason", errno)
	}
}

// miss remembers that the kernel is told of a name that it is not there. Where too many are remembered
// already, the kernel is told not to keep this one.
func (n *dirNode) miss(name string, out *fuse.EntryOut) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, known := n.absent[name]; known {
		return
	}
	if n.s.absent.Add(1) > maxAbsent {
		n.s.absent.Add(-1)
		out.SetEntryTimeout(time.Nanosecond) // 0 is the default
		return
	}
	if n.absent == nil {
		n.absent = map[string]struct{}{}
	}
	n.absent[name] = struct{}{}
}

// forgetAbsent takes the names out that are remembered as not there.
func (n *dirNode) forgetAbsent() map[string]struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	names := n.absent
	n.absent = nil
	n.s.absent.Add(-int64(len(names)))
	return names
}

// OnForget lets go of what is remembered of a directory that the kernel no longer remembers.
func (n *dirNode) OnForget() { n.forgetAbsent() }
