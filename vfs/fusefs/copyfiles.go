package fusefs

import (
	"errors"
	"fmt"
	"os"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// copyFiles makes unlinked files in memory for hot copies.
type copyFiles struct {
	mnt int // root of a tmpfs that lies in no directory; -1: none, memfds instead
}

// newCopyFiles mounts a tmpfs of huge pages, which is read a third faster than one of small pages.
func newCopyFiles() *copyFiles {
	mnt, err := privateMount("tmpfs", [][2]string{
		{"huge", "within_size"}, {"mode", "0700"},
		{"size", "0"}, {"nr_inodes", "0"}, // no limits but hot's own
	})
	if err != nil {
		// An old kernel, or one without huge pages.
		mnt = -1
	}
	return &copyFiles{mnt}
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

// probe tries whether the kernel would read such a file by itself.
func (c *copyFiles) probe(server *fuse.Server) error {
	if server.KernelSettings().Flags64()&fuse.CAP_PASSTHROUGH == 0 {
		return errors.New("this kernel has no FUSE passthrough (Linux 6.9)")
	}
	file, err := c.create(1)
	if err != nil {
		return err
	}
	defer file.Close()
	id, errno := server.RegisterBackingFd(&fuse.BackingMap{Fd: int32(file.Fd())})
	if errno != 0 {
		return fmt.Errorf("FUSE passthrough is not permitted, which needs root: %w", errno)
	}
	if errno := server.UnregisterBackingFd(id); errno != 0 {
		return fmt.Errorf("unregister a passthrough file: %w", errno)
	}
	return nil
}
