package fusefs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tesserafs/tesserafs/vfs/memfs"
)

// TestParseMount would catch a mount that is not recognised for the characters in its name.
func TestParseMount(t *testing.T) {
	for _, c := range []struct {
		line string
		want mountEntry
		ok   bool
	}{
		{"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n",
			mountEntry{"/mnt2", 98 << 20, "ext3", "/dev/root"}, true},
		{"70 27 0:53 / /tmp/a\\040b\\134c\\011d ro - fuse.tesserafs /data/v1\\040x ro,user_id=0\n",
			mountEntry{"/tmp/a b\\c\td", 53, "fuse.tesserafs", "/data/v1 x"}, true},
		{"70 27 0:53 / /tmp/\\04 ro shared:1 master:2 - fuse.tesserafs s ro\n",
			mountEntry{"/tmp/\\04", 53, "fuse.tesserafs", "s"}, true},
		{"70 27 0:53 / /m ro - fuse.tesserafs\n", mountEntry{}, false},
		{"70 27 53 / /m ro - fuse.tesserafs s\n", mountEntry{}, false},
		{"nothing", mountEntry{}, false},
		{"", mountEntry{}, false},
		{" - ", mountEntry{}, false},
	} {
		got, ok := parseMount(c.line)
		if got != c.want || ok != c.ok {
			t.Errorf("%q: %+v, %v", c.line, got, ok)
		}
	}
}

// TestMounted would catch a mount not found by another of its names, and one found where none is.
func TestMounted(t *testing.T) {
	base := t.TempDir()
	dir := filepath.Join(base, "a mount\\ü\n")
	link, chain := filepath.Join(base, "link"), filepath.Join(base, "chain")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{link: dir, chain: "link", filepath.Join(base, "loop"): "loop"} {
		if err := os.Symlink(to, from); err != nil {
			t.Fatal(err)
		}
	}
	s, err := Mount(chain, memfs.New(nil), Config{FsName: "/data/v 1"})
	if err != nil {
		t.Fatal(err)
	}
	defer end(t, s)
	for _, name := range []string{dir, dir + "/", link, chain, filepath.Join(base, ".", "x", "..", "link")} {
		if source, ok := Mounted(name); !ok || source != "/data/v 1" {
			t.Errorf("%q: %q, %v", name, source, ok)
		}
		if stale, err := Stale(name); stale || err != nil {
			t.Errorf("%q: stale %v, %v", name, stale, err)
		}
	}
	for _, name := range []string{base, filepath.Join(dir, "below"), filepath.Join(base, "absent"), filepath.Join(base, "loop"), "/proc"} {
		if source, ok := Mounted(name); ok {
			t.Errorf("%q: %q is mounted", name, source)
		}
		if err := Detach(name); err == nil {
			t.Errorf("%q: detached", name)
		}
	}
}

// TestStale would catch a dead mount that is not recognised, or not cleared, and a mount on top of
// one.
func TestStale(t *testing.T) {
	dir := t.TempDir()
	p := start(t, "serve", dir, "the source")
	p.says(t)
	if got, err := os.ReadFile(path(dir, "file")); string(got) != "data" || err != nil {
		t.Fatalf("%q, %v", got, err)
	}
	if stale, err := Stale(dir); stale || err != nil {
		t.Errorf("alive: stale %v, %v", stale, err)
	}
	_, err := Mount(dir, memfs.New(nil), Config{})
	oneLine(t, err, "the source is already mounted on")
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = p.cmd.Wait()
	defer func() { _ = Detach(dir) }()
	if stale, err := Stale(dir); !stale || err != nil {
		t.Errorf("killed: stale %v, %v", stale, err)
	}
	if name, ok := Mounted(dir); name != "the source" || !ok {
		t.Errorf("killed: mounted %q, %v", name, ok)
	}
	_, err = Mount(dir, memfs.New(nil), Config{})
	oneLine(t, err, "a dead mount of the source lies on")
	if err := Detach(dir); err != nil {
		t.Error(err)
	}
	if stale, err := Stale(dir); stale || err != nil {
		t.Errorf("cleared: stale %v, %v", stale, err)
	}
	if name, ok := Mounted(dir); ok {
		t.Errorf("cleared: mounted %q", name)
	}
	s, err := Mount(dir, memfs.New(nil), Config{})
	if err != nil {
		t.Fatal(err)
	}
	end(t, s)
}

// oneLine checks that an error is one line that says what it must.
func oneLine(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %q, want one line with %q", err, want)
	}
}

// TestMountRefuses would catch a mount that hides files, or an error that does not say what to do.
func TestMountRefuses(t *testing.T) {
	base := t.TempDir()
	file := filepath.Join(base, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]string{
		filepath.Join(base, "absent"):   "mkdir -p",
		filepath.Join(base, "absent/x"): "no such file or directory",
		file:                            "is not a directory",
		base:                            "is not empty",
	} {
		s, err := Mount(dir, memfs.New(nil), Config{})
		oneLine(t, err, want)
		if err == nil {
			end(t, s)
		}
	}
	// An empty directory that is a mount point of something else is as good as any.
	dir := t.TempDir()
	if os.Geteuid() == 0 {
		if err := unix.Mount("none", dir, "tmpfs", 0, "size=64k"); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = unix.Unmount(dir, 0) }()
	}
	s, err := Mount(dir, memfs.New(nil), Config{})
	if err != nil {
		t.Fatal(err)
	}
	end(t, s)
}
