package fusefs

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/tesserafs/tesserafs/vfs/memfs"
)

// TestReadOnly would catch a system call that changes something, or that fails with anything but
// EROFS, which tells people and programs why.
func TestReadOnly(t *testing.T) {
	dir, _ := show(t, memfs.New(map[string]memfs.File{
		"file": {Data: []byte("data"), Xattrs: map[string]string{"user.a": "1"}},
		"big":  {Data: noise(2 << 20)}, "sub/other": {}, "empty/": {},
	}), Config{})
	file, other, empty, absent := path(dir, "file"), path(dir, "sub/other"), path(dir, "empty"), path(dir, "new")
	open := func(name string, flags int) error {
		fd, err := unix.Open(name, flags|unix.O_CLOEXEC, 0o644)
		if err == nil {
			_ = unix.Close(fd)
		}
		return err
	}
	withFD := func(use func(fd int) error) error {
		fd, err := unix.Open(file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return use(fd)
	}
	times := []unix.Timespec{{Sec: 1}, {Sec: 2}}
	for name, call := range map[string]func() error{
		"open for writing":      func() error { return open(file, unix.O_WRONLY) },
		"open a big one":        func() error { return open(path(dir, "big"), unix.O_RDWR) },
		"open for both":         func() error { return open(file, unix.O_RDWR) },
		"open appending":        func() error { return open(file, unix.O_WRONLY|unix.O_APPEND) },
		"open truncating":       func() error { return open(file, unix.O_RDONLY|unix.O_TRUNC) },
		"create":                func() error { return open(absent, unix.O_CREAT|unix.O_WRONLY) },
		"create for reading":    func() error { return open(absent, unix.O_CREAT|unix.O_RDONLY) },
		"create without a name": func() error { return open(dir, unix.O_TMPFILE|unix.O_RDWR) },
		"mkdir":                 func() error { return unix.Mkdir(absent, 0o755) },
		"rmdir":                 func() error { return unix.Rmdir(empty) },
		"unlink":                func() error { return unix.Unlink(file) },
		"rename":                func() error { return unix.Rename(file, absent) },
		"rename over":           func() error { return unix.Rename(file, other) },
		"exchange": func() error {
			return unix.Renameat2(unix.AT_FDCWD, file, unix.AT_FDCWD, other, unix.RENAME_EXCHANGE)
		},
		"link":       func() error { return unix.Link(file, absent) },
		"symlink":    func() error { return unix.Symlink("file", absent) },
		"mkfifo":     func() error { return unix.Mkfifo(absent, 0o644) },
		"socket":     func() error { l, err := net.Listen("unix", absent); closeIf(l); return err },
		"truncate":   func() error { return unix.Truncate(file, 0) },
		"grow":       func() error { return unix.Truncate(file, 1<<20) },
		"chmod":      func() error { return unix.Chmod(file, 0o777) },
		"chmod root": func() error { return unix.Chmod(dir, 0o777) },
		"fchmod":     func() error { return withFD(func(fd int) error { return unix.Fchmod(fd, 0o777) }) },
		"chown":      func() error { return unix.Chown(file, 1, 1) },
		"lchown":     func() error { return unix.Lchown(file, 1, 1) },
		"utimes":     func() error { return unix.UtimesNanoAt(unix.AT_FDCWD, file, times, 0) },
		"touch":      func() error { return os.Chtimes(dir, time.Now(), time.Now()) },
		"setxattr":   func() error { return unix.Setxattr(file, "user.b", []byte("1"), 0) },
		"fsetxattr": func() error {
			return withFD(func(fd int) error { return unix.Fsetxattr(fd, "user.b", nil, 0) })
		},
		"setxattr of root": func() error { return unix.Setxattr(dir, "user.b", nil, 0) },
		"removexattr":      func() error { return unix.Removexattr(file, "user.a") },
		"set flags": func() error {
			return withFD(func(fd int) error {
				flags := uint32(0x10) // FS_IMMUTABLE_FL
				_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.FS_IOC_SETFLAGS, uintptr(unsafe.Pointer(&flags)))
				return errno
			})
		},
		"may write":      func() error { return unix.Access(file, unix.W_OK) },
		"may write root": func() error { return unix.Access(dir, unix.W_OK) },
	} {
		if err := call(); !errors.Is(err, unix.EROFS) {
			t.Errorf("%s: got %v, want EROFS", name, err)
		}
	}
	if got, err := os.ReadFile(file); string(got) != "data" || err != nil {
		t.Errorf("afterwards the file holds %q, %v", got, err)
	}
	names, err := filepath.Glob(path(dir, "*"))
	if err != nil || len(names) != 4 {
		t.Errorf("afterwards there are %q, %v", names, err)
	}
}

func closeIf(l net.Listener) {
	if l != nil {
		_ = l.Close()
	}
}
