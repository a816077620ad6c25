package localdir_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/tesserafs/tesserafs/tilecache/source"
	"github.com/tesserafs/tesserafs/tilecache/source/localdir"
	"github.com/tesserafs/tesserafs/tilecache/source/sourcetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// mutator changes files below dir.
type mutator struct {
	t   *testing.T
	dir string
}

func (m mutator) check(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m mutator) Replace(name string, data []byte) {
	path := filepath.Join(m.dir, name)
	m.check(os.MkdirAll(filepath.Dir(path), 0o755))
	m.check(os.WriteFile(path+".new", data, 0o644))
	m.check(os.Rename(path+".new", path))
}

func (m mutator) Rewrite(name string, data []byte) {
	m.check(os.WriteFile(filepath.Join(m.dir, name), data, 0o644))
}

func (m mutator) Delete(name string) { m.check(os.Remove(filepath.Join(m.dir, name))) }

// newSource makes a directory of files that are some days old, as tiles are.
func newSource(t *testing.T, objects map[string][]byte) (source.Source, sourcetest.Mutator) {
	t.Helper()
	m := mutator{t, t.TempDir()}
	old := time.Now().Add(-100 * time.Hour)
	for name, data := range objects {
		m.Replace(name, data)
		m.check(os.Chtimes(filepath.Join(m.dir, name), old, old))
	}
	s, err := localdir.Open(m.dir)
	m.check(err)
	return s, m
}

func mustOpen(t *testing.T, s source.Source, name string) source.Object {
	t.Helper()
	o, err := s.Open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.Close() })
	return o
}

func TestSuite(t *testing.T) { sourcetest.Test(t, newSource) }

func TestRanges(t *testing.T) { sourcetest.TestRanger(t, newSource) }

// Catches a bad directory that is told later or in other words.
func TestOpenDirectory(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	locked := filepath.Join(dir, "locked")
	unlisted := filepath.Join(dir, "unlisted")
	if err := errors.Join(os.WriteFile(file, nil, 0o644), os.Mkdir(locked, 0o400), os.Mkdir(unlisted, 0o300),
		os.Chmod(dir, 0o755), os.Chmod(filepath.Dir(dir), 0o755)); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		dir, says string
		is        error
	}{
		{"", "name the top directory", fs.ErrInvalid},
		{filepath.Join(dir, "none"), "check the path", fs.ErrNotExist},
		{file, "not a directory: name the top", unix.ENOTDIR},
		{filepath.Join(file, "x"), "not a directory: name the top", unix.ENOTDIR},
		{locked, "chmod -R a+rX", fs.ErrPermission},
		{unlisted, "chmod -R a+rX", fs.ErrPermission},
	} {
		_, err := asNobody(func() (*localdir.Source, error) { return localdir.Open(test.dir) })
		if !errors.Is(err, test.is) || !strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), test.dir) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v, want one line with %q", test.dir, err, test.says)
		}
	}
	t.Chdir(dir)
	s, err := localdir.Open(".")
	if err != nil || s.String() != dir {
		t.Errorf("open .: %v, %v; want the absolute path %s", s, err, dir)
	}
}

// asNobody calls as a user who owns nothing, where the test runs as root: root may read everything.
func asNobody[T any](call func() (T, error)) (T, error) {
	if os.Geteuid() != 0 {
		return call()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// The user for file access is the thread's own, and takes root's rights over files with it.
	if err := unix.Setfsuid(65534); err != nil {
		panic(err)
	}
	defer unix.Setfsuid(0)
	return call()
}

// Catches an open that waits for a pipe's writer for ever, and special files taken for tiles.
func TestNotRegular(t *testing.T) {
	s, _ := newSource(t, map[string][]byte{"dir/a": {1}})
	if err := errors.Join(
		unix.Mkfifo(filepath.Join(s.String(), "pipe"), 0o644),
		os.Symlink("/dev/zero", filepath.Join(s.String(), "device")),
	); err != nil {
		t.Fatal(err)
	}
	before := openFiles(t)
	for _, name := range []string{"pipe", "device", "dir"} {
		_, err := s.Open(t.Context(), name)
		if err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("%s: %v, want not a regular file", name, err)
		}
	}
	if after := openFiles(t); after != before {
		t.Errorf("%d files open after %d", after, before)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}

// Catches links that are not followed, links to directories listed as objects, and dangling links
// told as absence of a tile.
func TestLinks(t *testing.T) {
	elsewhere, _ := newSource(t, map[string][]byte{"2024/x": {1, 2, 3}})
	s, _ := newSource(t, map[string][]byte{"a": {1}})
	link := func(target, name string) {
		if err := os.Symlink(target, filepath.Join(s.String(), name)); err != nil {
			t.Fatal(err)
		}
	}
	link(filepath.Join(elsewhere.String(), "2024"), "2024")
	link(filepath.Join(elsewhere.String(), "2024", "x"), "linked")
	link("nowhere", "dangling")
	link("loop", "loop")
	for _, name := range []string{"2024/x", "linked"} {
		if got := mustOpen(t, s, name).Info().Size; got != 3 {
			t.Errorf("%s: size %d", name, got)
		}
	}
	for _, withInfo := range []bool{false, true} {
		entries, err := s.List(t.Context(), ".", withInfo)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range entries {
			got = append(got, fmt.Sprint(e.Name, " ", e.Dir, " ", e.Info.Size, " ", !e.Info.ModTime.IsZero()))
		}
		want := "2024 true 0 false|a false 0 false|dangling false 0 false|linked false 0 false|loop false 0 false"
		if withInfo {
			want = "2024 true 0 false|a false 1 true|dangling false 0 false|linked false 3 true|loop false 0 false"
		}
		if strings.Join(got, "|") != want {
			t.Errorf("info %v: %q, want %q", withInfo, got, want)
		}
	}
	if _, err := s.Open(t.Context(), "dangling"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("dangling: %v", err)
	}
	if _, err := s.Open(t.Context(), "loop"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a loop is an error of its own, got %v", err)
	}
	// A path that goes through a link that leads nowhere any more has changed.
	o := mustOpen(t, s, "2024/x")
	if err := os.RemoveAll(elsewhere.String()); err != nil {
		t.Fatal(err)
	}
	eventually(t, 2*time.Second, func() bool { return errors.Is(o.Check(t.Context()), source.ErrChanged) })
}

func eventually(t *testing.T, within time.Duration, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v", within)
		}
	}
}

// Catches a rewrite in place that the very next read or check does not notice, which is what this
// source promises beyond the suite.
func TestRewriteIsNoticedAtOnce(t *testing.T) {
	for _, size := range []int{4, 3, 5, 0} {
		s, m := newSource(t, map[string][]byte{"a": {1, 2, 3, 4}, "b": {1, 2, 3, 4}})
		read, checked := mustOpen(t, s, "a"), mustOpen(t, s, "b")
		m.Rewrite("a", make([]byte, size))
		m.Rewrite("b", make([]byte, size))
		if _, err := read.ReadAt(t.Context(), make([]byte, 1), 0); !errors.Is(err, source.ErrChanged) {
			t.Errorf("read after a rewrite to %d bytes: %v", size, err)
		}
		if err := checked.Check(t.Context()); !errors.Is(err, source.ErrChanged) {
			t.Errorf("check after a rewrite to %d bytes: %v", size, err)
		}
	}
}

// Catches a change that is believed undone because size and time are as before.
func TestChangedForEver(t *testing.T) {
	s, m := newSource(t, map[string][]byte{"a": {1, 2}})
	o := mustOpen(t, s, "a")
	old := o.Info().ModTime
	m.Rewrite("a", []byte{3, 4})
	if err := o.Check(t.Context()); !errors.Is(err, source.ErrChanged) {
		t.Fatal(err)
	}
	if err := os.Chtimes(filepath.Join(s.String(), "a"), old, old); err != nil {
		t.Fatal(err)
	}
	if err := o.Check(t.Context()); !errors.Is(err, source.ErrChanged) {
		t.Errorf("after the time was set back: %v", err)
	}
}

// Catches changes of rights or of the number of links, and reading, taken for changes of content.
func TestUnchanged(t *testing.T) {
	s, _ := newSource(t, map[string][]byte{"a": {1, 2}})
	o := mustOpen(t, s, "a")
	path := filepath.Join(s.String(), "a")
	if err := errors.Join(os.Chmod(path, 0o600), os.Link(path, path+".link"), os.Chtimes(path, time.Now(), o.Info().ModTime)); err != nil {
		t.Fatal(err)
	}
	time.Sleep(1100 * time.Millisecond) // so that the path is looked at as well
	if err := o.Check(t.Context()); err != nil {
		t.Error(err)
	}
}

// Catches a listing of several batches that is not sorted as a whole, and one that a cancelled
// context does not stop or cuts short.
func TestListMany(t *testing.T) {
	objects := make(map[string][]byte)
	for i := range 9_000 { // three batches
		objects[fmt.Sprint("many/", i)] = nil
	}
	s, _ := newSource(t, objects)
	for delay := range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(delay)*500*time.Microsecond)
		entries, err := s.List(ctx, "many", delay%2 == 0)
		if err == nil && len(entries) != len(objects) || err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%d entries, %v", len(entries), err)
		}
		cancel()
	}
	for _, withInfo := range []bool{false, true} {
		entries, err := s.List(t.Context(), "many", withInfo)
		sorted := slices.IsSortedFunc(entries, func(a, b source.Entry) int { return strings.Compare(a.Name, b.Name) })
		if err != nil || len(entries) != len(objects) || !sorted {
			t.Errorf("%d entries, sorted: %v, %v", len(entries), sorted, err)
		}
	}
}

// Catches files that disappear during a listing and fail it, and listings that lose others for it.
func TestListWhileDeleted(t *testing.T) {
	objects := make(map[string][]byte)
	for i := range 5000 {
		objects[fmt.Sprint("d/", i)], objects[fmt.Sprint("d/x", i)] = nil, nil
	}
	s, _ := newSource(t, objects)
	var deleting sync.WaitGroup
	deleting.Go(func() {
		for i := range 5000 {
			if err := os.Remove(filepath.Join(s.String(), "d", fmt.Sprint("x", i))); err != nil {
				t.Error(err)
			}
		}
	})
	for range 20 {
		entries, err := s.List(t.Context(), "d", true)
		if err != nil {
			t.Error(err)
		}
		stay := 0
		for _, e := range entries {
			if !strings.HasPrefix(e.Name, "x") {
				stay++
			}
		}
		if stay != 5000 || slices.ContainsFunc(entries, func(e source.Entry) bool { return e.Name == "" }) {
			t.Errorf("%d of 5000 that stay are listed", stay)
		}
	}
	deleting.Wait()
}

// Catches the limit of open files told without a way out.
func TestTooManyOpenFiles(t *testing.T) {
	s, _ := newSource(t, map[string][]byte{"a": {1}})
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 3, Max: was.Max}); err != nil {
		t.Fatal(err)
	}
	_, err := s.Open(t.Context(), "a")
	_, listErr := s.List(t.Context(), ".", false)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{err, listErr} {
		if !errors.Is(err, unix.EMFILE) || !strings.Contains(err.Error(), "ulimit -n") {
			t.Errorf("%v, want EMFILE and what to do", err)
		}
	}
}

// Catches files that a child process inherits.
func TestCloseOnExec(t *testing.T) {
	s, _ := newSource(t, map[string][]byte{"a": {1}})
	mustOpen(t, s, "a")
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, e := range fds {
		target, _ := os.Readlink("/proc/self/fd/" + e.Name())
		if target != filepath.Join(s.String(), "a") {
			continue
		}
		found = true
		info, err := os.ReadFile("/proc/self/fdinfo/" + e.Name())
		if err != nil {
			t.Fatal(err)
		}
		var flags int
		if _, rest, ok := strings.Cut(string(info), "flags:"); !ok {
			t.Fatalf("no flags in %q", info)
		} else if _, err := fmt.Sscanf(rest, "%o", &flags); err != nil {
			t.Fatal(err)
		}
		if flags&unix.O_CLOEXEC == 0 {
			t.Errorf("flags %o without O_CLOEXEC", flags)
		}
	}
	if !found {
		t.Error("the open file is not in /proc/self/fd")
	}
}

func BenchmarkCheck(b *testing.B) {
	dir := b.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a"), []byte{1}, 0o600); err != nil {
		b.Fatal(err)
	}
	s, err := localdir.Open(dir)
	if err != nil {
		b.Fatal(err)
	}
	o, err := s.Open(b.Context(), "a")
	if err != nil {
		b.Fatal(err)
	}
	defer o.Close()
	b.ReportAllocs()
	for b.Loop() {
		if err := o.Check(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkList lists a directory of 50,000 files.
func BenchmarkList(b *testing.B) {
	dir := b.TempDir()
	for i := range 50_000 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("grid_%.2f_%.2f.tiff", float64(i%3600)/10-180+.05, float64(i/3600)/10+.05)), nil, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	s, err := localdir.Open(dir)
	if err != nil {
		b.Fatal(err)
	}
	for _, withInfo := range []bool{false, true} {
		b.Run(fmt.Sprintf("info=%v", withInfo), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if entries, err := s.List(b.Context(), ".", withInfo); err != nil || len(entries) != 50_000 {
					b.Fatal(len(entries), err)
				}
			}
		})
	}
}
