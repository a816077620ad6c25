package fusefs

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tesserafs/tesserafs/vfs"
	"github.com/tesserafs/tesserafs/vfs/memfs"
)

// manyFiles is a tree in which equal names lie in many directories.
func manyFiles() map[string]memfs.File {
	files := map[string]memfs.File{}
	for d := range 20 {
		for f := range 30 {
			name := fmt.Sprintf("%d/sub/%d", d, f)
			files[name] = memfs.File{Data: []byte(name)}
		}
	}
	return files
}

// inodes lists the inode numbers of a directory's tree by path.
func inodes(t *testing.T, dir string) map[string]uint64 {
	t.Helper()
	found := map[string]uint64{}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		found[rel] = info.Sys().(*syscall.Stat_t).Ino
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return found
}

// TestInodes would catch numbers that change with a remount or with the order of look-ups, and two
// files with one number.
func TestInodes(t *testing.T) {
	root := memfs.New(manyFiles())
	dir, s := show(t, root, Config{})
	first := inodes(t, dir)
	end(t, s)
	dir, _ = show(t, root, Config{})
	if _, err := os.Stat(path(dir, "19/sub/29")); err != nil {
		t.Error(err)
	}
	second := inodes(t, dir)
	seen := map[uint64]string{}
	for name, ino := range first {
		if second[name] != ino {
			t.Errorf("%s: inode %d, after a remount %d", name, ino, second[name])
		}
		if other, ok := seen[ino]; ok {
			t.Errorf("%s and %s are both inode %d", name, other, ino)
		}
		seen[ino] = name
	}
	// What rsync compares must be the same in later versions too.
	for name, want := range map[string]uint64{".": 1, "0": 0x3eed199c14ab5d28} {
		if first[name] != want {
			t.Errorf("%s: inode %#x, in earlier versions %#x", name, first[name], want)
		}
	}
}

// TestInodeCollisions would catch the bytes of one file served as another's because a hash gave both
// one number. Here it gives seven numbers to all.
func TestInodeCollisions(t *testing.T) {
	files := manyFiles()
	dir := t.TempDir()
	s, err := mount(dir, memfs.New(files), Config{}, func(parent uint64, name string) uint64 {
		return 2 + inodeNumber(parent, name)%7
	})
	if err != nil {
		t.Fatal(err)
	}
	defer end(t, s)
	for range 2 {
		for name, f := range files {
			if got, err := os.ReadFile(path(dir, "%s", name)); err != nil || !bytes.Equal(got, f.Data) {
				t.Errorf("%s: got %q, %v", name, got, err)
			}
		}
	}
	if n := len(inodes(t, dir)); n != 1+20+20+len(files) {
		t.Errorf("%d nodes are found", n)
	}
}

// TestReservedInodes would catch the numbers that mean something else to the kernel or to go-fuse.
func TestReservedInodes(t *testing.T) {
	for i := range 100_000 {
		switch ino := inodeNumber(uint64(i), "c"); ino {
		case 0, 1, ^uint64(0):
			t.Errorf("parent %d: inode %d", i, ino)
		}
	}
}

// TestAttributes would catch what stat shows wrong.
func TestAttributes(t *testing.T) {
	data := make([]byte, 100_001)
	data[50_000] = 1
	old := time.Date(1961, 4, 12, 6, 7, 0, 123456789, time.UTC)
	dir, _ := show(t, memfs.New(map[string]memfs.File{
		"sparse": {Data: data, Block: 4096},
		"plain":  {Data: data},
		"old":    {ModTime: old},
		"sub/x":  {},
	}), Config{})
	for name, want := range map[string]struct {
		mode   uint32
		size   int64
		blocks int64
	}{
		".":      {unix.S_IFDIR | 0o555, 0, 0},
		"sub":    {unix.S_IFDIR | 0o555, 0, 0},
		"sparse": {unix.S_IFREG | 0o444, 100_001, 8},
		"plain":  {unix.S_IFREG | 0o444, 100_001, 196},
		"old":    {unix.S_IFREG | 0o444, 0, 0},
	} {
		var st unix.Stat_t
		if err := unix.Lstat(path(dir, "%s", name), &st); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if st.Mode != want.mode || st.Size != want.size || st.Blocks != want.blocks || st.Nlink != 1 ||
			st.Blksize != blockSize || int(st.Uid) != os.Getuid() || int(st.Gid) != os.Getgid() {
			t.Errorf("%s: %+v", name, st)
		}
		mtime := memfs.Epoch
		if name == "old" {
			mtime = old
		}
		for _, ts := range []unix.Timespec{st.Atim, st.Mtim, st.Ctim} {
			if got := time.Unix(ts.Sec, ts.Nsec); !got.Equal(mtime) {
				t.Errorf("%s: time %v, want %v", name, got, mtime)
			}
		}
	}
}

// TestStatfs would catch a df that shows nothing, or free space.
func TestStatfs(t *testing.T) {
	size := int64(1<<40 + 1)
	dir, _ := show(t, memfs.New(nil), Config{FsName: "an archive, of\\ tiles", Size: func() int64 { return size }})
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	if int64(st.Blocks)*int64(st.Frsize) != 1<<40+4096 || st.Bfree != 0 || st.Bavail != 0 || st.Ffree != 0 || st.Namelen != 255 {
		t.Errorf("%+v", st)
	}
	if st.Flags&unix.ST_RDONLY == 0 || st.Flags&unix.ST_NOSUID == 0 || st.Flags&unix.ST_NODEV == 0 {
		t.Errorf("flags %#x lack ro, nosuid or nodev", st.Flags)
	}
	if name, ok := Mounted(dir); !ok || name != "an archive, of\\ tiles" {
		t.Errorf("mounted: %q, %v", name, ok)
	}
}

// TestXattrs would catch what getfattr and listxattr(2) get wrong: sizes asked for, room too small.
func TestXattrs(t *testing.T) {
	long := strings.Repeat("grid_0.15_52.05,", 1000)
	dir, _ := show(t, memfs.New(map[string]memfs.File{
		"none": {},
		"some": {Xattrs: map[string]string{"user.tesserafs.tiles": long, "user.empty": "", "user.a": "1"}},
	}), Config{})
	some, none := path(dir, "some"), path(dir, "none")
	list := "user.a\x00user.empty\x00user.tesserafs.tiles\x00"
	for _, c := range []struct {
		name  string
		call  func(p []byte) (int, error)
		room  int
		want  string
		n     int
		errno error
	}{
		{"value", get(some, "user.tesserafs.tiles"), len(long), long, len(long), nil},
		{"with room to spare", get(some, "user.a"), 100, "1", 1, nil},
		{"size of value", get(some, "user.tesserafs.tiles"), 0, "", len(long), nil},
		{"too small", get(some, "user.tesserafs.tiles"), len(long) - 1, "", -1, unix.ERANGE},
		{"empty value", get(some, "user.empty"), 10, "", 0, nil},
		{"size of empty value", get(some, "user.empty"), 0, "", 0, nil},
		{"absent", get(some, "user.b"), 10, "", -1, unix.ENODATA},
		{"absent, size", get(some, "user.b"), 0, "", -1, unix.ENODATA},
		{"capability", get(some, "security.capability"), 10, "", -1, unix.ENODATA},
		{"of a file without", get(none, "user.a"), 10, "", -1, unix.ENODATA},
		{"of a directory", get(dir, "user.a"), 10, "", -1, unix.ENODATA},
		{"list", listOf(some), 100, list, len(list), nil},
		{"size of list", listOf(some), 0, "", len(list), nil},
		{"list too small", listOf(some), len(list) - 1, "", -1, unix.ERANGE},
		{"list of a file without", listOf(none), 10, "", 0, nil},
		{"list of a directory", listOf(dir), 10, "", 0, nil},
	} {
		p := make([]byte, c.room)
		n, err := c.call(p)
		if err != c.errno || c.errno == nil && (n != c.n || string(p[:len(c.want)]) != c.want) {
			t.Errorf("%s: got %d, %v, want %d, %v", c.name, n, err, c.n, c.errno)
		}
	}
}

func get(file, name string) func([]byte) (int, error) {
	return func(p []byte) (int, error) { return unix.Getxattr(file, name, p) }
}

func listOf(file string) func([]byte) (int, error) {
	return func(p []byte) (int, error) { return unix.Listxattr(file, p) }
}

// TestLseek would catch holes where there are none, which cp and rsync would then not copy.
func TestLseek(t *testing.T) {
	const size = 10*4096 + 100
	data := make([]byte, size)
	data[2*4096+7] = 1 // block 2 is data, and 5 and 6, and the last, short one
	data[5*4096] = 1
	data[6*4096] = 1
	data[size-1] = 1
	big := make([]byte, 3<<20)
	big[1<<20] = 1
	dir, _ := show(t, memfs.New(map[string]memfs.File{
		"sparse": {Data: data, Block: 4096},
		"plain":  {Data: data},
		"hole":   {Data: make([]byte, size), Block: 4096},
		"big":    {Data: big, Block: 4096},
		"empty":  {},
	}), Config{HotBytes: 64 << 20})
	const none = -1 // ENXIO
	for _, c := range []struct {
		file       string
		off        int64
		data, hole int64
	}{
		{"sparse", 0, 2 * 4096, 0},
		{"sparse", 2 * 4096, 2 * 4096, 3 * 4096},
		{"sparse", 2*4096 + 8, 2*4096 + 8, 3 * 4096},
		{"sparse", 3*4096 - 1, 3*4096 - 1, 3 * 4096},
		{"sparse", 3 * 4096, 5 * 4096, 3 * 4096},
		{"sparse", 5 * 4096, 5 * 4096, 7 * 4096},
		{"sparse", 10 * 4096, 10 * 4096, size},
		{"sparse", size - 1, size - 1, size},
		{"sparse", size, none, none},
		{"sparse", size + 1<<30, none, none},
		{"plain", 0, 0, size},
		{"plain", 4096, 4096, size},
		{"plain", size - 1, size - 1, size},
		{"plain", size, none, none},
		{"hole", 0, none, 0},
		{"hole", 5000, none, 5000},
		{"hole", size - 1, none, size - 1},
		{"big", 0, 1 << 20, 0},
		{"big", 1<<20 + 5, 1<<20 + 5, 1<<20 + 4096},
		{"big", 2 << 20, none, 2 << 20},
		{"empty", 0, none, none},
	} {
		fd, err := unix.Open(path(dir, "%s", c.file), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		for whence, want := range map[int]int64{unix.SEEK_DATA: c.data, unix.SEEK_HOLE: c.hole} {
			got, err := unix.Seek(fd, c.off, whence)
			if want == none && err != unix.ENXIO || want != none && (err != nil || got != want) {
				t.Errorf("%s: lseek from %d, %d: got %d, %v, want %d", c.file, c.off, whence, got, err, want)
			}
		}
		if err := unix.Close(fd); err != nil {
			t.Error(err)
		}
	}
}

// TestErrno would catch a failure that looks like absence, and an interrupt nobody made.
func TestErrno(t *testing.T) {
	live := t.Context()
	gone, cancel := context.WithCancel(live)
	cancel()
	wrap := func(errs ...any) error { return fmt.Errorf(strings.Repeat("%w ", len(errs)), errs...) }
	for _, c := range []struct {
		ctx          context.Context
		err          error
		lookup, read syscall.Errno
	}{
		{live, fs.ErrNotExist, syscall.ENOENT, syscall.EIO},
		{live, wrap(fs.ErrNotExist), syscall.ENOENT, syscall.EIO},
		{live, wrap(vfs.ErrDamaged, fs.ErrNotExist), syscall.EIO, syscall.EIO},
		{live, wrap(vfs.ErrTimeout, fs.ErrNotExist), syscall.EIO, syscall.EIO},
		{live, wrap(vfs.ErrChanged, fs.ErrNotExist), syscall.ESTALE, syscall.ESTALE},
		{live, wrap(vfs.ErrDamaged), syscall.EIO, syscall.EIO},
		{live, wrap(context.DeadlineExceeded), syscall.EIO, syscall.EIO},
		{live, wrap(context.Canceled), syscall.EIO, syscall.EIO},
		{gone, wrap(context.Canceled), syscall.EINTR, syscall.EINTR},
		{gone, wrap(vfs.ErrDamaged), syscall.EIO, syscall.EIO},
		{live, syscall.ENOENT, syscall.ENOENT, syscall.EIO},
		{live, syscall.ENOSPC, syscall.EIO, syscall.EIO},
	} {
		if got := lookupErrno(c.ctx, c.err); got != c.lookup {
			t.Errorf("lookup: %v: %v, want %v", c.err, got, c.lookup)
		}
		if got := readErrno(c.ctx, c.err); got != c.read {
			t.Errorf("read: %v: %v, want %v", c.err, got, c.read)
		}
	}
}
