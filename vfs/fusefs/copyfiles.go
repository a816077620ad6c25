package fusefs

import (
	"errors"
	"fmt"
	"os"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// copyFiles makes unlinked files in memory for hot copies, and tells the kernel of them.
type copyFiles struct {
	server *fuse.Server
	mnt    int // root of a tmpfs that lies in no directory; -1: none, memfds instead
}

// newCopyFiles mounts a tmpfs of huge pages, which is read a third faster than one of small pages.
func newCopyFiles(server *fuse.Server) *copyFiles {
	mnt, err := privateMount("tmpfs", [][2]string{
		{"huge", "within_size"}, {"mode", "0700"},
		{"size", "0"}, {"nr_inodes", "0"}, // no limits but hot's own
	})
	if err != nil {
		// An old kernel, or one without huge pages.
		mnt = -1
	}
	return &copyFiles{server, mnt}
}

func (c *copyFiles) close() {
	if c.mnt >= 0 {
		_ = unix.Close(c.mnt)
	}
}

// create makes a file of that size. The size comes first, as pages are huge only within it.
func (c *copyFiles) create(size int64) (*os.File, error) {
	var fd int
	var err error
	if c.mnt >= 0 {
		fd, err = unix.Openat(c.mnt, ".", unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	} else {
		fd, err = unix.MemfdCreate(fsType, unix.MFD_CLOEXEC)
	}
	if err != nil {
		return nil, fmt.Errorf("create a file in memory: %w", err)
	}
	file := os.NewFile(uintptr(fd), "hot copy")
	if err := unix.Ftruncate(fd, size); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("size a file in memory: %w", err)
	}
	return file, nil
}

// register names a file to the kernel, which may then be told to read it by itself.
func (c *copyFiles) register(file *os.File) (int32, error) {
	id, errno := c.server.RegisterBackingFd(&fuse.BackingMap{Fd: int32(file.Fd())})
	if errno != 0 {
		return 0, fmt.Errorf("register a file for FUSE passthrough: %w", errno)
	}
	return id, nil
}

// remove takes the name back and closes the file. The kernel keeps it for as long as it is mapped.
func (c *copyFiles) remove(file *os.File, id int32) {
	_ = c.server.UnregisterBackingFd(id) // fails when the mount has ended, and the name with it
	_ = file.Close()
}

// probe tries whether the kernel would read such a file by itself.
func (c *copyFiles) probe() error {
	if c.server.KernelSettings().Flags64()&fuse.CAP_PASSTHROUGH == 0 {
		return errors.New("this kernel has no FUSE passthrough (Linux 6.9)")
	}
	file, err := c.create(1)
	if err != nil {
		return err
	}
	id, err := c.register(file)
	if err != nil {
		_ = file.Close()
		return fmt.Errorf("%w; it needs root", err)
	}
	c.remove(file, id)
	return nil
}
