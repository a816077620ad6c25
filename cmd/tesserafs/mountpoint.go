package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tesserafs/tesserafs/vfs/fusefs"
)

// host is what of the machine decides whether something can be mounted.
type host struct {
	device     string // /dev/fuse
	fuseConf   string // /etc/fuse.conf
	fusermount string // name of the helper that mounts for others than root
	mountinfo  string // /proc/self/mountinfo
	root       bool
}

func thisHost() host {
	return host{
		device: "/dev/fuse", fuseConf: "/etc/fuse.conf", fusermount: "fusermount3",
		mountinfo: "/proc/self/mountinfo", root: os.Geteuid() == 0,
	}
}

// checkDevice says why the FUSE device cannot be used. Other users than root get it from
// fusermount3, which opens it with their permissions.
func (h host) checkDevice() error {
	f, err := os.OpenFile(h.device, os.O_RDWR, 0)
	switch {
	case err == nil:
		return f.Close()
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENODEV):
		return fmt.Errorf("there is no %s: load the module with 'modprobe fuse', or start the container with --device /dev/fuse", h.device)
	case errors.Is(err, fs.ErrPermission) && h.root:
		return fmt.Errorf("root may not open %s: start the container with --device /dev/fuse --cap-add SYS_ADMIN", h.device)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("you may not open %s: let everybody with 'sudo chmod 0666 %s', which is the default", h.device, h.device)
	}
	return fmt.Errorf("cannot open %s: %w", h.device, err)
}

// checkHelper says that fusermount3 is missing to those who need it.
func (h host) checkHelper() error {
	_, err1 := exec.LookPath(h.fusermount)
	_, err2 := exec.LookPath("/bin/" + h.fusermount) // where PATH does not lead there
	if err1 != nil && err2 != nil && !h.root {
		return fmt.Errorf("%s is missing, which mounts for others than root: install it with 'sudo apt install fuse3'", h.fusermount)
	}
	return nil
}

// othersAllowed says whether --allow-other works.
func (h host) othersAllowed() bool {
	if h.root {
		return true
	}
	conf, err := os.ReadFile(h.fuseConf)
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(conf)) {
		if strings.TrimSpace(line) == "user_allow_other" {
			return true
		}
	}
	return false
}

func (h host) checkOthers() error {
	if h.othersAllowed() {
		return nil
	}
	return fmt.Errorf("--allow-other is not permitted: put the line user_allow_other into %s, or leave it out", h.fuseConf)
}

// checkMountPoint says why dir cannot be mounted on, before a long scan rather than after it. dir is
// absolute.
func checkMountPoint(dir string) error {
	if name, ok := fusefs.Mounted(dir); ok {
		return fmt.Errorf("%s already shows %s: unmount it first with 'tesserafs unmount %s'", dir, name, shellWord(dir))
	}
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s does not exist: make it with 'mkdir -p %s'", dir, shellWord(dir))
	case errors.Is(err, unix.ENOTCONN):
		return fmt.Errorf("a dead mount of another program lies on %s: clear it with 'fusermount3 -uz %s'", dir, shellWord(dir))
	case errors.Is(err, unix.ENOTDIR):
		return fmt.Errorf("%s is not a directory: choose an empty one", dir)
	case err != nil:
		return fmt.Errorf("cannot mount on %s: %w", dir, err)
	}
	defer f.Close()
	if _, err := f.Readdirnames(1); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s is not empty: choose an empty directory, as a mount hides what lies under it", dir)
	}
	return nil
}

// checkApart refuses a mount that covers its own archive, and one that lies inside it, where the
// next scan would walk into it. Paths that cannot be resolved are for others to report.
func checkApart(source, dir string) error {
	s, err1 := filepath.EvalSymlinks(source)
	d, err2 := filepath.EvalSymlinks(dir)
	if err1 != nil || err2 != nil {
		return nil
	}
	switch {
	case s == d:
		return fmt.Errorf("%s is the archive itself: choose another directory to mount on", dir)
	case inside(d, s):
		return fmt.Errorf("%s lies inside the archive %s: choose a directory outside it", dir, source)
	case inside(s, d):
		return fmt.Errorf("the archive %s lies inside %s, which a mount would hide: choose another directory", source, dir)
	}
	return nil
}

// inside says whether a path lies below a directory.
func inside(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != "." && rel != ".." && !strings.HasPrefix(rel, "../")
}

// clearDead takes a dead mount of ours, left by a process that was killed, off a directory. It says
// whether there was one.
func clearDead(dir string) (bool, error) {
	if _, ok := fusefs.Mounted(dir); !ok {
		return false, nil
	}
	dead, err := fusefs.Stale(dir)
	if err != nil || !dead {
		return false, err
	}
	return true, fusefs.Detach(dir)
}
