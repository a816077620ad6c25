package disk

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const inNamespace = "TESSERAFS_DISK_TEST_NAMESPACE"

// withMounts runs a test again, in a process whose mounts are its own and go with it; there it gives
// true.
func withMounts(t *testing.T) bool {
	t.Helper()
	if os.Getenv(inNamespace) != "" {
		return true
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), inNamespace+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	if os.Geteuid() != 0 {
		// As root of a namespace of users, who may mount there.
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

// mountTmpfs gives a small filesystem.
func mountTmpfs(t *testing.T, size string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := errors.Join(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size+",mode=0700")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// newLogged is a cache whose log is kept.
func newLogged(t *testing.T, dir string) (*Cache, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	c, err := Open(dir, Config{Limit: 64 << 20, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, &log
}

// Catches a full disk that fails reads, that is told more than once or tried again all the time, that
// leaves pages half written, and a cache that never changes again because the disk ended before its limit
// did.
func TestFullDisk(t *testing.T) {
	if !withMounts(t) {
		return
	}
	dir := mountTmpfs(t, "2m")
	c, log := newLogged(t, dir)
	want := content("a", 200*PageSize)
	o := newObject(t, c, "a", int64(len(want)))
	o.Write(0, want)
	kept := readAll(t, o, want)
	s := c.Stats()
	if s.WriteFailures == 0 || s.DamagedPages != 0 || kept == 0 || kept > 128 {
		t.Errorf("%d pages kept, %+v", kept, s)
	}
	for page := range int64(200) {
		o.Write(page, want[page*PageSize:(page+1)*PageSize])
	}
	if again := c.Stats().WriteFailures; again != s.WriteFailures+200 {
		t.Errorf("%d write failures, then %d: writing does not pause", s.WriteFailures, again)
	}
	if lines := strings.Count(log.String(), "\n"); lines != 1 || !strings.Contains(log.String(), "make room on its disk") || !strings.Contains(log.String(), dir) {
		t.Errorf("the log:\n%s", log)
	}
	if bytes := used(t, dir); bytes > 2<<20*95/100 {
		t.Errorf("%d bytes are used: no room was made", bytes)
	}

	// After the pause there is room, for the pages that were not kept.
	c.paused.Store(time.Now().UnixNano())
	before := c.Stats().WriteFailures
	o.Write(190, want[190*PageSize:])
	if p := make([]byte, 10*PageSize); o.Read(t.Context(), 190, p) != len(p) || c.Stats().WriteFailures != before {
		t.Errorf("nothing is kept after the pause: %+v", c.Stats())
	}
	if lines := strings.Count(log.String(), "\n"); lines != 2 || !strings.Contains(log.String(), "again") {
		t.Errorf("the log:\n%s", log)
	}

	// Somebody else takes what is left.
	if err := os.WriteFile(filepath.Join(dir, "other"), make([]byte, 4<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	for range 10 {
		c.paused.Store(0)
		o.Write(0, want)
		readAll(t, o, want)
		x := newObject(t, c, "x", int64(len(want)))
		x.Write(0, want)
		x.Close()
	}
	if s := c.Stats(); s.DamagedPages != 0 {
		t.Errorf("%+v", s)
	}
	// No room at all, not for a file.
	empty := mountTmpfs(t, "16k,nr_inodes=1")
	if _, err := Open(empty, Config{}); !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "make room there") {
		t.Errorf("open on a full disk: %v", err)
	}
}

// Catches a cache on a read-only disk that is not read, complains of each page, or does not find out
// that the disk may be written to again.
func TestReadOnlyDisk(t *testing.T) {
	if !withMounts(t) {
		return
	}
	dir := mountTmpfs(t, "4m")
	want := content("a", 20*PageSize)
	c := newCache(t, dir, 0)
	o := newObject(t, c, "a", int64(len(want)))
	o.Write(0, want[:10*PageSize])
	o.Close()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	remount := func(flags uintptr) {
		t.Helper()
		if err := unix.Mount("", dir, "", unix.MS_REMOUNT|flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	remount(unix.MS_RDONLY)
	var log *bytes.Buffer
	c, log = newLogged(t, dir)
	o = newObject(t, c, "a", int64(len(want)))
	for range 3 {
		c.paused.Store(0)
		o.Write(5, want[5*PageSize:])
		if kept := readAll(t, o, want); kept != 10 {
			t.Errorf("%d of 10 pages are read", kept)
		}
	}
	if _, ok := c.Known(here, "a"); !ok {
		t.Error("the state is not known")
	}
	if s := c.Stats(); s.WriteFailures != 45 || s.DamagedPages != 0 || s.BytesKept == 0 {
		t.Errorf("%+v", s)
	}
	if lines := strings.Count(log.String(), "\n"); lines != 1 || !strings.Contains(log.String(), "give this user the right") {
		t.Errorf("the log:\n%s", log)
	}
	if _, err := Open(filepath.Join(dir, "x"), Config{}); !errors.Is(err, unix.EROFS) || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("open where there is nothing: %v", err)
	}
	remount(0)
	c.paused.Store(0)
	o.Write(5, want[5*PageSize:])
	if kept := readAll(t, o, want); kept != 20 {
		t.Errorf("%d of 20 pages are kept when the disk may be written to", kept)
	}
}

// Catches a directory of another user that is not read although it may be, or fails otherwise than in
// one line.
func TestNotPermitted(t *testing.T) {
	if os.Geteuid() == 0 {
		// Root may do everything, whatever the modes; the user for file access is the thread's own, and takes
		// these rights along.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
	}
	become := func(user int) {
		if os.Geteuid() == 0 {
			if err := unix.Setfsuid(user); err != nil {
				t.Fatal(err)
			}
		}
	}
	defer become(0)
	dir := t.TempDir()
	modes := func(dirs, files fs.FileMode) {
		become(0)
		for _, err := range []error{os.Chmod(filepath.Dir(dir), 0o755), os.Chmod(filepath.Join(dir, subdir), 0o700), filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir():
				return os.Chmod(path, dirs|0o700) // to walk on; the top one last
			case d.Type().IsRegular():
				return os.Chmod(path, files)
			}
			return nil
		}), os.Chmod(filepath.Join(dir, subdir), dirs)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		become(65534)
	}
	want := content("a", 20*PageSize)
	c := newCache(t, dir, 0)
	o := newObject(t, c, "a", int64(len(want)))
	o.Write(0, want[:10*PageSize])
	o.Close()
	c.Close()

	modes(0o555, 0o444)
	c, log := newLogged(t, dir)
	o = newObject(t, c, "a", int64(len(want)))
	o.Write(5, want[5*PageSize:])
	if kept := readAll(t, o, want); kept != 10 || c.Stats().WriteFailures != 15 {
		t.Errorf("%d of 10 pages are read, %+v", kept, c.Stats())
	}
	if lines := strings.Count(log.String(), "\n"); lines != 1 || !strings.Contains(log.String(), "give this user the right") {
		t.Errorf("the log:\n%s", log)
	}

	modes(0o555, 0o000)
	o = newObject(t, c, "a", int64(len(want)))
	o.Write(0, want)
	if kept := readAll(t, o, want); kept != 0 {
		t.Errorf("%d pages of files that may not be read", kept)
	}

	modes(0o600, 0o600)
	if _, err := Open(dir, Config{}); !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "may not use it") {
		t.Errorf("open of a directory that may not be searched: %v", err)
	}
	modes(0o755, 0o600)
	if err := func() error { become(0); defer become(65534); return os.Chmod(dir, 0o000) }(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Config{}); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("open of a directory that may not be searched: %v", err)
	}
	become(0)
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	modes(0o700, 0o600)
}
