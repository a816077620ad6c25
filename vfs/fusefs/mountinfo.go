package fusefs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// mountEntry is a line of /proc/self/mountinfo.
type mountEntry struct {
	dir    string
	dev    uint64 // as the kernel numbers connections: major<<20 | minor
	fstype string
	source string
}

// Mounted tells whether a tesserafs is mounted at dir, and its FsName. It asks the kernel's list of
// mounts, not the mount, which may hang.
func Mounted(dir string) (fsname string, ok bool) {
	dir, err := resolve(dir)
	if err != nil {
		return "", false
	}
	m, ok := mountAt(dir)
	if !ok || m.fstype != "fuse."+fsType {
		return "", false
	}
	return m.source, true
}

// Stale tells whether a dead mount lies at dir: one whose process is gone, so that every access
// fails with ENOTCONN.
func Stale(dir string) (bool, error) {
	dir, err := resolve(dir)
	if err != nil {
		return false, err
	}
	// Not stat: the kernel may still answer that from what it was told an hour ago.
	var st unix.Statfs_t
	switch err := unix.Statfs(dir, &st); err {
	case nil:
		return false, nil
	case unix.ENOTCONN:
		return true, nil
	default:
		return false, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
}

// Detach unmounts the tesserafs at dir lazily: it is gone from the directory at once, busy or dead,
// and ends when its last user does.
func Detach(dir string) error {
	dir, err := resolve(dir)
	if err != nil {
		return err
	}
	if _, ok := Mounted(dir); !ok {
		return fmt.Errorf("no tesserafs is mounted on %s", dir)
	}
	return unmountDir(dir, true)
}

// unmountDir unmounts, directly where that is permitted, by fusermount3 otherwise.
func unmountDir(dir string, lazy bool) error {
	flags, option := unix.UMOUNT_NOFOLLOW, "-u"
	if lazy {
		flags, option = flags|unix.MNT_DETACH, "-uz"
	}
	err := unix.Unmount(dir, flags)
	if err == nil {
		return nil
	}
	if !errors.Is(err, unix.EPERM) {
		return fmt.Errorf("unmount %s: %w", dir, err)
	}
	bin, err := fusermount()
	if err != nil {
		return err
	}
	if out, err := exec.Command(bin, option, dir).CombinedOutput(); err != nil {
		return fmt.Errorf("unmount %s: %s", dir, bytes.TrimSpace(out))
	}
	return nil
}

// mountAt finds what is mounted on a resolved directory. Of several mounts on top of each other the
// last listed is the one to be seen.
func mountAt(dir string) (found mountEntry, ok bool) {
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return found, false
	}
	for line := range strings.Lines(string(info)) {
		if m, valid := parseMount(line); valid && m.dir == dir {
			found, ok = m, true
		}
	}
	return found, ok
}

// parseMount reads a line of mountinfo (proc_pid_mountinfo(5)):
//
//	36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
func parseMount(line string) (m mountEntry, ok bool) {
	before, after, ok := strings.Cut(line, " - ")
	if !ok {
		return m, false
	}
	first, last := strings.Fields(before), strings.Fields(after)
	if len(first) < 6 || len(last) < 2 {
		return m, false
	}
	majorText, minorText, _ := strings.Cut(first[2], ":")
	major, err1 := strconv.ParseUint(majorText, 10, 32)
	minor, err2 := strconv.ParseUint(minorText, 10, 32)
	if err1 != nil || err2 != nil {
		return m, false
	}
	return mountEntry{
		dir: unescape(first[4]), dev: major<<20 | minor,
		fstype: unescape(last[0]), source: unescape(last[1]),
	}, true
}

// unescape undoes the octal escapes of mountinfo (\040 for a space).
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+4 <= len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// resolve makes a path absolute and free of symbolic links, without asking the directory itself
// anything but whether it is one: it may be a mount that is dead or hangs.
func resolve(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	for range 40 { // as many links as the kernel follows
		parent, err := filepath.EvalSymlinks(filepath.Dir(dir))
		if err != nil {
			return "", err
		}
		dir = filepath.Join(parent, filepath.Base(dir))
		target, err := os.Readlink(dir)
		if err != nil {
			return dir, nil // no link; what else may be wrong with it, its user finds out
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(parent, target)
		}
		dir = target
	}
	return "", &os.PathError{Op: "resolve", Path: dir, Err: unix.ELOOP}
}
