package fusefs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tesserafs/tesserafs/vfs/memfs"
)

// nobody is a user without rights.
const nobody = 65534

// TestUnprivileged would catch a mount that only root can make, read or end. As root it runs as
// another user, in a mount namespace of its own where /dev/fuse is everybody's and fusectl mounted,
// as distributions have it.
func TestUnprivileged(t *testing.T) {
	base := openDir(t)
	cmd := exec.Command(os.Args[0], base)
	if os.Geteuid() == 0 {
		// The binary lies where only root may look.
		self := filepath.Join(base, "self")
		copyFile(t, os.Args[0], self)
		if err := os.Chown(base, nobody, nobody); err != nil {
			t.Fatal(err)
		}
		// In a directory of its own, as base gets mounts.
		dev := filepath.Join(openDir(t), "fuse")
		cmd = exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-ec", `
			mknod -m 0666 "$1" c 10 229
			mount --bind "$1" /dev/fuse
			mount -t fusectl none /sys/fs/fuse/connections
			exec setpriv --reuid=65534 --regid=65534 --clear-groups "$2" "$3"`, "sh", dev, self, base)
	}
	cmd.Env = append(os.Environ(), "FUSEFS_CLIENT=unprivileged")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// openDir makes a directory that other users reach.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "fusefs-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	src, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(dst, src); err != nil {
		t.Fatal(err)
	}
	if err := dst.Close(); err != nil {
		t.Fatal(err)
	}
}

// clientUnprivileged mounts, reads, and unmounts what is idle, busy and dead, without privilege.
func clientUnprivileged(args []string) error {
	if os.Geteuid() == 0 {
		return errors.New("it runs as root")
	}
	dir := filepath.Join(args[0], "a dir, with \\ in it")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	small, big := noise(1000), noise(3<<20)
	root := memfs.New(map[string]memfs.File{"small": {Data: small}, "big": {Data: big}})
	for _, busy := range []bool{false, true} {
		log := &lines{}
		s, err := Mount(dir, root, Config{FsName: "a, b\\c", HotBytes: 1 << 30, Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
		if err != nil {
			return err
		}
		if name, ok := Mounted(dir); !ok || name != "a, b\\c" {
			return fmt.Errorf("mounted: %q, %v", name, ok)
		}
		for range 4 { // more than once, as hot copies are asked for and impossible
			for name, want := range map[string][]byte{"small": small, "big": big} {
				if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Equal(got, want) {
					return fmt.Errorf("%s: %d bytes, %v", name, len(got), err)
				}
			}
		}
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(dir, "small"), &st); err != nil || int(st.Uid) != os.Getuid() || st.Mode != unix.S_IFREG|0o444 {
			return fmt.Errorf("stat: %+v, %v", st, err)
		}
		if err := os.WriteFile(filepath.Join(dir, "new"), nil, 0o600); !errors.Is(err, unix.EROFS) {
			return fmt.Errorf("write: %v, want EROFS", err)
		}
		if st := s.Stats(); st.HotFiles != 0 || !strings.Contains(log.String(), "hot copies are off") {
			return fmt.Errorf("%+v, and the log says %q", st, log)
		}
		if _, err := Mount(dir, root, Config{}); err == nil || !strings.Contains(err.Error(), "already mounted") {
			return fmt.Errorf("a second mount: %v", err)
		}
		var reader *os.File
		if busy {
			if reader, err = os.Open(filepath.Join(dir, "big")); err != nil {
				return err
			}
		}
		begin := time.Now()
		err = s.Unmount()
		if took := time.Since(begin); took > 3*grace {
			return fmt.Errorf("unmount took %v", took)
		}
		if _, ok := Mounted(dir); ok {
			return errors.New("it is still mounted")
		}
		if busy {
			// Without fusectl only root can abort, and what is left ends with the process.
			if _, statErr := os.Stat("/sys/fs/fuse/connections/" + fmt.Sprint(s.dev)); statErr != nil && err != nil &&
				strings.Contains(err.Error(), "ends with this process") {
				err = nil
			}
			_ = reader.Close()
		}
		if err != nil {
			return fmt.Errorf("unmount, busy %v: %w", busy, err)
		}
		if err := s.Wait(); err != nil {
			return err
		}
	}
	if _, err := Mount(dir, root, Config{AllowOther: true}); !userAllowOther() && (err == nil || !strings.Contains(err.Error(), "user_allow_other")) {
		return fmt.Errorf("allow other: %v", err)
	}
	if err := os.Chmod(dir, 0o555); err != nil {
		return err
	}
	if _, err := Mount(dir, root, Config{}); err == nil || !strings.Contains(err.Error(), "no permission to write") {
		return fmt.Errorf("mount on a directory that is not writable: %v", err)
	}
	return nil
}

// TestAllowOther would catch a mount that others can read unasked, or cannot though asked.
func TestAllowOther(t *testing.T) {
	if os.Geteuid() != 0 {
		return // nobody else to read as
	}
	for _, allow := range []bool{false, true} {
		dir := openDir(t)
		s, err := Mount(dir, memfs.New(map[string]memfs.File{"f": {Data: []byte("data")}}), Config{AllowOther: allow})
		if err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "cat", path(dir, "f")).Output()
		if allow != (err == nil && string(out) == "data") {
			t.Errorf("allow %v: %q, %v", allow, out, err)
		}
		end(t, s)
	}
}
