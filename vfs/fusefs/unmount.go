package fusefs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// grace is how long reads under way may take to finish once an unmount has begun.
	grace = 2 * time.Second

	// settle is how long the kernel may take to end a connection that nobody uses.
	settle = 200 * time.Millisecond
)

// Unmount ends the mount, always: where clients still read, or a shell sits in the directory, it
// takes it out of sight at once (a lazy unmount), gives open files two seconds to be read to their
// end and then aborts the connection, so that every client gets ENOTCONN and none waits. It returns
// when all is ended; after somebody else's unmount, at once. It may be called more than once.
//
// Aborting needs root, or /sys/fs/fuse/connections; where neither is given Unmount returns an error,
// and what is left ends with the process.
func (s *Server) Unmount() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ending.Store(true)
	s.end()
	if s.mounted() {
		err := unmountDir(s.dir, false)
		if err != nil {
			err = unmountDir(s.dir, true)
		}
		if err != nil && !s.ended(settle) {
			return err
		}
	}
	for start := time.Now(); ; {
		if s.ended(10 * time.Millisecond) {
			return nil
		}
		waited := time.Since(start)
		if waited > grace || waited > settle && s.open.Load() == 0 {
			break
		}
	}
	if err := abort(s.dev); err != nil {
		return fmt.Errorf("%s is unmounted, but its clients still hold it and it cannot be aborted: %w; it ends with this process", s.dir, err)
	}
	if !s.ended(grace) {
		return fmt.Errorf("%s is unmounted and aborted, but a read of the tree does not end; it ends with this process", s.dir)
	}
	return nil
}

// ended waits for the end of serving.
func (s *Server) ended(most time.Duration) bool {
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-s.done:
		return true
	case <-timer.C:
		return false
	}
}

// mounted tells whether this mount, and no later one, is what the directory shows. While the
// connection lives its device number is its own; once it has ended the number may be another's, who
// is then alive.
func (s *Server) mounted() bool {
	m, ok := mountAt(s.dir)
	if !ok || m.dev != s.dev {
		return false
	}
	select {
	case <-s.done:
		stale, err := Stale(s.dir)
		return stale && err == nil
	default:
		return true
	}
}

// abort cuts the connection of that number, by the control file system of FUSE. Where that is not
// mounted, as in containers, root makes an instance nobody else sees.
func abort(dev uint64) error {
	name := strconv.FormatUint(dev, 10) + "/abort"
	f, err := os.OpenFile("/sys/fs/fuse/connections/"+name, os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		mnt, mountErr := privateMount("fusectl", nil)
		if mountErr != nil {
			return fmt.Errorf("/sys/fs/fuse/connections is not mounted, nor can it be: %w", mountErr)
		}
		defer unix.Close(mnt)
		var fd int
		fd, err = unix.Openat(mnt, name, unix.O_WRONLY|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.ENOENT) {
			return nil // it has ended by itself
		}
		f = os.NewFile(uintptr(fd), name)
	}
	if err != nil {
		return fmt.Errorf("open %s: %w", name, err)
	}
	defer f.Close()
	_, err = f.Write([]byte("1"))
	return err
}

// privateMount makes a mount that lies in no directory and returns a descriptor of its root; closing
// that ends it.
func privateMount(fstype string, options [][2]string) (int, error) {
	ctx, err := unix.Fsopen(fstype, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("fsopen %s: %w", fstype, err)
	}
	defer unix.Close(ctx)
	for _, o := range options {
		if err := unix.FsconfigSetString(ctx, o[0], o[1]); err != nil {
			return -1, fmt.Errorf("fsconfig %s %s=%s: %w", fstype, o[0], o[1], err)
		}
	}
	if err := unix.FsconfigCreate(ctx); err != nil {
		return -1, fmt.Errorf("fsconfig %s: %w", fstype, err)
	}
	mnt, err := unix.Fsmount(ctx, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return -1, fmt.Errorf("fsmount %s: %w", fstype, err)
	}
	return mnt, nil
}
