package vfstest

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tesserafs/tesserafs/vfs"
	"github.com/tesserafs/tesserafs/vfs/memfs"
)

// TestDirectory looks at trees shown as a directory of the operating system for what io/fs does not
// say. show shows a tree until the test ends and returns the directory.
//
// Clients are child processes where they wait for the door: a Go process that serves a directory
// must not wait for it in ways its scheduler does not see.
func TestDirectory(t *testing.T, show func(t *testing.T, root vfs.Dir) string) {
	t.Run("seekdir", func(t *testing.T) { testSeekdir(t, show) })
	t.Run("interrupt", func(t *testing.T) { testInterrupt(t, show) })
	t.Run("tools", func(t *testing.T) { testTools(t, show) })
}

// dirent is what a directory says about one name.
type dirent struct {
	name string
	ino  uint64
	kind byte
	next int64 // position after it, for lseek
}

// getdents reads the entries that one call gives.
func getdents(fd int, buf []byte) ([]dirent, error) {
	n, err := unix.Getdents(fd, buf)
	if err != nil {
		return nil, err
	}
	var list []dirent
	for buf = buf[:n]; len(buf) > 0; {
		// struct linux_dirent64: d_ino, d_off, d_reclen, d_type, d_name.
		size := int(binary.NativeEndian.Uint16(buf[16:]))
		name, _, _ := bytes.Cut(buf[19:size], []byte{0})
		list = append(list, dirent{string(name), binary.NativeEndian.Uint64(buf), buf[18], int64(binary.NativeEndian.Uint64(buf[8:]))})
		buf = buf[size:]
	}
	return list, nil
}

// testSeekdir would catch a position (telldir) that later stands for another name, a listing that
// does not start again after rewinddir, and an inode number that is not stat's.
func testSeekdir(t *testing.T, show func(*testing.T, vfs.Dir) string) {
	const n = 3000
	dir := filepath.Join(show(t, memfs.New(bigDir(n))), "big")
	for pass := range 3 { // later ones may come from a cache
		fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		all, err := readAllDents(fd)
		if err != nil {
			t.Fatal(err)
		}
		if len(all) != n+2 {
			t.Fatalf("pass %d: %d entries, want %d", pass, len(all), n+2)
		}
		// Go to positions back and forth; what follows each must be what followed it before.
		buf := make([]byte, 8192)
		for _, i := range []int{n, 5, 0, n / 2, 1, n / 2, n - 3, 17, n/2 + 1, 2} {
			if _, err := unix.Seek(fd, all[i].next, unix.SEEK_SET); err != nil {
				t.Fatal(err)
			}
			got, err := getdents(fd, buf)
			if err != nil || len(got) == 0 {
				t.Fatalf("pass %d: after entry %d: %d entries, %v", pass, i, len(got), err)
			}
			if want := all[i+1 : i+1+len(got)]; !slices.Equal(got, want) {
				t.Errorf("pass %d: after entry %d comes %v, not %v", pass, i, got[0], want[0])
			}
		}
		if _, err := unix.Seek(fd, all[len(all)-1].next, unix.SEEK_SET); err != nil {
			t.Fatal(err)
		}
		if got, err := getdents(fd, buf); err != nil || len(got) != 0 {
			t.Errorf("pass %d: at the end: %d entries, %v", pass, len(got), err)
		}
		if _, err := unix.Seek(fd, 0, unix.SEEK_SET); err != nil {
			t.Fatal(err)
		}
		if again, err := readAllDents(fd); err != nil || !slices.Equal(again, all) {
			t.Errorf("pass %d: after rewinding: %d entries, %v, want the same %d", pass, len(again), err, len(all))
		}
		for i, entry := range all {
			var st unix.Stat_t
			if i%97 > 1 {
				continue
			}
			if err := unix.Lstat(filepath.Join(dir, entry.name), &st); err != nil || st.Ino != entry.ino {
				t.Errorf("%s: inode %d in the directory, %d in stat, %v", entry.name, entry.ino, st.Ino, err)
			}
		}
	}
}

func readAllDents(fd int) ([]dirent, error) {
	var all []dirent
	for buf := make([]byte, 4096); ; {
		some, err := getdents(fd, buf)
		if err != nil || len(some) == 0 {
			return all, err
		}
		all = append(all, some...)
	}
}

// testInterrupt would catch a client that cannot be interrupted while it waits, and an interrupt
// that ends another's wait: be it the first, whose request the door works on, or the second, who may
// wait for the first one's page.
func testInterrupt(t *testing.T, show func(*testing.T, vfs.Dir) string) {
	for _, size := range []int{100_000, 2 << 20} {
		for victim := range 2 {
			t.Run(fmt.Sprintf("%d bytes, reader %d", size, victim), func(t *testing.T) {
				interruptOne(t, show, noise(9, size), victim)
			})
		}
	}
}

func interruptOne(t *testing.T, show func(*testing.T, vfs.Dir) string, data []byte, victim int) {
	gate := make(chan struct{})
	waiting := make(chan struct{}, 1000)
	dir := show(t, memfs.New(map[string]memfs.File{"slow": {
		Data: data,
		Before: func(ctx context.Context, off int64, n int) error {
			waiting <- struct{}{}
			return memfs.Wait(gate)(ctx, off, n)
		},
	}}))
	file := filepath.Join(dir, "slow")

	var got [2]bytes.Buffer
	var readers [2]*exec.Cmd
	for i := range readers {
		readers[i] = exec.Command("cat", file)
		readers[i].Stdout = &got[i]
		if err := readers[i].Start(); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			<-waiting
		} else {
			time.Sleep(200 * time.Millisecond) // the second cannot be seen to wait
		}
	}
	if err := readers[victim].Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- readers[victim].Wait() }()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Error("a reader is not interrupted")
		defer func() { <-done }()
	}
	close(gate)
	if err := readers[1-victim].Wait(); err != nil || !bytes.Equal(got[1-victim].Bytes(), data) {
		t.Errorf("the other reader got %d of %d bytes, %v", got[1-victim].Len(), len(data), err)
	}
	if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, data) {
		t.Errorf("the next read got %d of %d bytes, %v", len(got), len(data), err)
	}
}

// testTools would catch what the usual tools stumble over: links counted wrong (find), sizes and
// holes (du, cp), anything that differs from a copy (diff).
func testTools(t *testing.T, show func(*testing.T, vfs.Dir) string) {
	files := behaved()
	dir := show(t, memfs.New(files))
	listed := 0
	for name, f := range files {
		if !f.Hidden && name[len(name)-1] != '/' {
			listed++
		}
	}
	out := run(t, "find", dir, "-type", "f", "-printf", ".")
	if len(out) != listed {
		t.Errorf("find sees %d files, want %d", len(out), listed)
	}
	copied := filepath.Join(t.TempDir(), "copy")
	run(t, "cp", "-a", "--sparse=auto", dir, copied)
	run(t, "diff", "-r", dir, copied)
	// du counts what is not a hole, in blocks of 512 bytes.
	blocks := int64(0)
	tree := memfs.New(files)
	for name, f := range files {
		if f.Hidden || name[len(name)-1] == '/' {
			continue
		}
		node, err := vfs.Walk(t.Context(), tree, name)
		if err != nil {
			t.Fatal(err)
		}
		blocks += (node.Attr().Stored + 511) / 512
	}
	if got := string(run(t, "du", "-s", "-B512", dir)); got != fmt.Sprintf("%d\t%s\n", blocks, dir) {
		t.Errorf("du says %q, want %d blocks of 512 bytes", got, blocks)
	}
}

// run runs a tool that must succeed. It never starts in the shown directory: a Go process that
// serves a directory must not fork into it.
func run(t *testing.T, name string, args ...string) []byte {
	t.Helper()
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		t.Errorf("%s: %v", name, err)
	}
	return out
}
