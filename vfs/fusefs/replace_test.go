package fusefs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tesserafs/tesserafs/vfs"
	"github.com/tesserafs/tesserafs/vfs/memfs"
)

// wants looks at a mounted tree as a client would that has looked before: every file by stat, its bytes, and
// every directory's names. absent are names that must not be there.
func wants(t *testing.T, dir string, files map[string]memfs.File, absent ...string) {
	t.Helper()
	names := map[string][]string{".": nil}
	for name, f := range files {
		name := strings.TrimSuffix(name, "/")
		for child := name; child != "."; child = filepath.Dir(child) {
			parent := filepath.Dir(child)
			if child == name && f.Hidden || slices.Contains(names[parent], filepath.Base(child)) {
				continue
			}
			names[parent] = append(names[parent], filepath.Base(child))
		}
	}
	for name, f := range files {
		if strings.HasSuffix(name, "/") {
			continue
		}
		if info, err := os.Stat(path(dir, "%s", name)); err != nil || info.Size() != int64(len(f.Data)) {
			t.Errorf("%s: stat: %v, %v, want %d bytes", name, info, err, len(f.Data))
		}
		readWhole(t, path(dir, "%s", name), f.Data)
	}
	for parent, want := range names {
		slices.Sort(want)
		entries, err := os.ReadDir(path(dir, "%s", parent))
		var got []string
		for _, e := range entries {
			got = append(got, e.Name())
		}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s lists %q, %v, want %q", parent, got, err, want)
		}
	}
	for _, name := range absent {
		if _, err := os.Stat(path(dir, "%s", name)); !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
			t.Errorf("%s: %v, want that it is not there", name, err)
		}
	}
}

// file is a file of n bytes, of which the first is mark.
func file(mark byte, n int) memfs.File {
	data := noise(n)
	data[0] = mark
	return memfs.File{Data: data}
}

// TestReplace would catch anything of a tree that a client sees after another has taken its place: names,
// sizes, bytes, listings, absences, whatever the kernel kept of them; and inode numbers that change.
func TestReplace(t *testing.T) {
	for name, cfg := range configs() {
		t.Run(name, func(t *testing.T) { testReplace(t, cfg) })
	}
}

func testReplace(t *testing.T, cfg Config) {
	const big = 3 << 20
	hidden := memfs.File{Data: []byte("hidden"), Hidden: true}
	one := map[string]memfs.File{
		"same": file(1, 5000), "same big": file(1, big), "changed": file(1, 5000), "changed big": file(1, big),
		"grows": file(1, 5000), "shrinks": file(1, big), "dir/same": file(1, 10), "dir/goes": file(1, 10),
		"dir/goes too/a/b": file(1, 10), "was file": file(1, 10), "was dir/x": file(1, 10), "dir/hidden goes": hidden,
		"empties/x": file(1, 10), "empty/": {}, "fills/": {},
	}
	two := map[string]memfs.File{
		"same": one["same"], "same big": one["same big"], "changed": file(2, 5000), "changed big": file(2, big),
		"grows": file(2, big), "shrinks": file(2, 5000), "dir/same": one["dir/same"], "dir/comes": file(2, 10),
		"dir/comes too/a/b": file(2, 10), "was file/x": file(2, 10), "was dir": file(2, 10), "dir/hidden comes": hidden,
		"empties/": {}, "empty/": {}, "fills/x": file(2, 10),
	}
	notInOne := []string{"dir/comes", "dir/comes too", "dir/comes too/a/b", "was file/x", "dir/hidden comes", "never"}
	notInTwo := []string{"dir/goes", "dir/goes too", "dir/goes too/a", "dir/goes too/a/b", "was dir/x", "dir/hidden goes", "empties/x", "never"}
	dir, s := show(t, memfs.New(one), cfg)
	before := inodes(t, dir)
	for range 3 { // the second and third time from what the kernel keeps
		wants(t, dir, one, notInOne...)
	}
	var released <-chan struct{}
	for round := range 2 {
		released = s.Replace(memfs.New(two))
		for range 3 {
			wants(t, dir, two, notInTwo...)
		}
		for name, ino := range inodes(t, dir) {
			if was, ok := before[name]; ok && was != ino {
				t.Errorf("%s: inode %d, before %d", name, ino, was)
			}
		}
		<-released // nothing is open
		released = s.Replace(memfs.New(one))
		for range 3 {
			wants(t, dir, one, notInOne...)
		}
		if now := inodes(t, dir); round == 0 && len(now) != len(before) {
			t.Errorf("%d nodes, at first %d", len(now), len(before))
		}
		<-released
	}
	if s.absent.Load() > int64(len(notInOne)) {
		t.Errorf("%d absences are remembered", s.absent.Load())
	}
}

// TestReplaceOpen would catch an open file that shows, or is measured by, a byte of another tree: files that
// are cached, read around the cache, read from a copy, and mapped.
func TestReplaceOpen(t *testing.T) {
	const big = 4 << 20
	old, young := map[string]memfs.File{}, map[string]memfs.File{}
	for name, size := range map[string]int{"small": 200_000, "big": big, "hot": big, "mapped": big, "mapped hot": big} {
		old[name], young[name] = file(1, size), memfs.File{Data: bytes.Repeat([]byte{2}, size+size/2)}
	}
	dir, s := show(t, memfs.New(old), Config{HotBytes: 64 << 20})
	makeHot(t, s, path(dir, "hot"))
	makeHot(t, s, path(dir, "mapped hot"))
	held := map[string]*os.File{}
	for _, name := range []string{"small", "big", "hot"} {
		f, err := os.Open(path(dir, "%s", name))
		if err != nil {
			t.Fatal(err)
		}
		held[name] = f
		if _, err := f.ReadAt(make([]byte, 5000), 50_000); err != nil {
			t.Error(err)
		}
	}
	mapped := map[string]*process{}
	for _, name := range []string{"mapped", "mapped hot"} {
		mapped[name] = start(t, "mmap", path(dir, "%s", name), "shared")
		mapped[name].says(t)
	}
	released := s.Replace(memfs.New(young))
	for range 3 { // old and new by turns
		for name, f := range held {
			info, err := f.Stat()
			if err != nil || info.Size() != int64(len(old[name].Data)) {
				t.Errorf("%s: fstat: %v, %v", name, info, err)
			}
			got, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<40))
			if err != nil || !bytes.Equal(got, old[name].Data) {
				t.Errorf("%s: the open file gives other bytes: %d of %d, %v", name, len(got), len(old[name].Data), err)
			}
		}
		for name := range young {
			readWhole(t, path(dir, "%s", name), young[name].Data)
		}
		for name, p := range mapped {
			p.tell(t)
			if p.says(t) != sum(old[name].Data) {
				t.Errorf("%s: the mapping shows other bytes", name)
			}
		}
		select {
		case <-released:
			t.Fatal("the tree is released while its files are open")
		default:
		}
	}
	for _, f := range held {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	for _, p := range mapped {
		if err := p.in.Close(); err != nil {
			t.Error(err)
		}
	}
	<-released
	until(t, "copies of the old tree go", func() bool { return s.hotOf(old) == 0 })
}

// hotOf counts the copies of files that have the sizes of a tree's.
func (s *Server) hotOf(files map[string]memfs.File) (n int) {
	s.hot.mu.Lock()
	defer s.hot.mu.Unlock()
	for c := range s.hot.copies {
		for _, f := range files {
			if c.size == int64(len(f.Data)) {
				n++
				break
			}
		}
	}
	return n
}

// TestReplaceCopying would catch a copy that is finished after its file was replaced, and then stays for ever.
func TestReplaceCopying(t *testing.T) {
	gate := make(chan struct{})
	var copying atomic.Bool
	slow := file(1, 3<<20)
	slow.Before = func(ctx context.Context, off int64, n int) error {
		if n == fillStep { // clients read less at a time
			copying.Store(true)
			<-gate
		}
		return nil
	}
	dir, s := show(t, memfs.New(map[string]memfs.File{"f": slow}), Config{HotBytes: 64 << 20})
	for range 2 {
		readWhole(t, path(dir, "f"), slow.Data)
	}
	until(t, "a copy is begun", copying.Load)
	released := s.Replace(memfs.New(map[string]memfs.File{"f": file(2, 1<<20)}))
	select {
	case <-released:
		t.Error("the tree is released while it is read for a copy")
	case <-time.After(50 * time.Millisecond):
	}
	close(gate)
	<-released
	until(t, "the copy is dropped", func() bool { st := s.Stats(); return st.HotFiles == 0 && st.HotBytes == 0 })
}

// TestReplaceSitting would catch a shell that is thrown out of its directory, or that sees an old tree from
// there: cd, then look-ups, listings and getcwd(2) relative to it.
func TestReplaceSitting(t *testing.T) {
	tree := func(mark byte, there bool) vfs.Dir {
		files := map[string]memfs.File{"a/f": file(mark, 10)}
		if there {
			files["a/b/c/"+fmt.Sprint(mark)] = file(mark, 10)
		}
		return memfs.New(files)
	}
	dir, s := show(t, tree(1, true), Config{})
	p := start(t, "sit", path(dir, "a/b/c"))
	here := path(dir, "a/b/c")
	if got, want := p.says(t), here+" [1] <nil>"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	for _, c := range []struct {
		root vfs.Dir
		want string
	}{
		{tree(2, true), here + " [2] <nil>"},
		{tree(3, true), here + " [3] <nil>"},
		{tree(4, false), "ESTALE"},
		{tree(5, true), "[5] <nil>"}, // it has come back; its path only once somebody looks it up
	} {
		s.Replace(c.root)
		p.tell(t)
		if got := p.says(t); !strings.HasSuffix(got, c.want) && !(c.want == "ESTALE" && strings.Contains(got, unix.ESTALE.Error())) {
			t.Errorf("the shell says %q, want %q", got, c.want)
		}
	}
	readWhole(t, path(dir, "a/b/c/5"), file(5, 10).Data)
	p.tell(t)
	if got, want := p.says(t), here+" [5] <nil>"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// clientSit sits in a directory and says what it sees there each time it is told to.
func clientSit(args []string) error {
	if err := os.Chdir(args[0]); err != nil {
		return err
	}
	var line string
	for {
		buf := make([]byte, 4096)
		n, _ := unix.Getcwd(buf) // os.Getwd would believe $PWD
		entries, err := os.ReadDir(".")
		var names []string
		for _, e := range entries {
			data, readErr := os.ReadFile(e.Name())
			if readErr != nil || len(data) != 10 || fmt.Sprint(data[0]) != e.Name() {
				err = errors.Join(err, fmt.Errorf("%s: %v, %v", e.Name(), data, readErr))
			}
			names = append(names, e.Name())
		}
		fmt.Println(string(bytes.TrimRight(buf[:max(n, 0)], "\x00")), names, err)
		if _, err := fmt.Scanln(&line); errors.Is(err, io.EOF) {
			return nil
		}
	}
}

// TestReplaceStale would catch an open that gets, or fails for, what the kernel still keeps of a tree that is
// gone: here it was told nothing.
func TestReplaceStale(t *testing.T) {
	dir, s := show(t, memfs.New(map[string]memfs.File{"d/f": file(1, 100), "d/big": file(1, 2<<20), "gone/f": file(1, 1)}), Config{})
	for _, name := range []string{"d/f", "d/big", "gone/f"} {
		if _, err := os.ReadFile(path(dir, "%s", name)); err != nil {
			t.Fatal(err)
		}
	}
	held, err := unix.Open(path(dir, "d/f"), unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(held)
	closed(t, s)
	young := map[string]memfs.File{"d/f": file(2, 200), "d/big": file(2, 3<<20)}
	old := s.shown.Swap(newGeneration(1, memfs.New(young)))
	old.lookups.leave()
	old.users.leave()
	for name, f := range young {
		readWhole(t, path(dir, "%s", name), f.Data)
	}
	if _, err := os.ReadFile(path(dir, "gone/f")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file of a directory that is gone: %v", err)
	}
	if _, err := os.ReadDir(path(dir, "gone")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory that is gone: %v", err)
	}
	// Who insists on the old file is told.
	if _, err := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d", held)); !errors.Is(err, unix.ESTALE) {
		t.Errorf("the old file, opened again: %v", err)
	}
}

// TestReplaceAbsent would catch a name that stays absent because too many were to be remembered.
func TestReplaceAbsent(t *testing.T) {
	dir, s := show(t, memfs.New(nil), Config{})
	s.absent.Store(maxAbsent - 1)
	for _, name := range []string{"a", "a", "b", "c", "b"} {
		if _, err := os.Stat(path(dir, "%s", name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := s.absent.Load(); n != maxAbsent {
		t.Errorf("%d names are remembered, at most %d", n, maxAbsent)
	}
	files := map[string]memfs.File{"a": file(1, 1), "b": file(2, 1), "c": file(3, 1)}
	s.Replace(memfs.New(files))
	wants(t, dir, files)
	if n := s.absent.Load(); n != maxAbsent-1 {
		t.Errorf("%d names are remembered after, want %d", n, maxAbsent-1)
	}
}

// fussy is a directory whose look-ups and listings do as told.
type fussy struct {
	vfs.Dir
	lookup func(ctx context.Context, name string) error
	list   func()
}

func (f *fussy) Lookup(ctx context.Context, name string) (vfs.Node, error) {
	if f.lookup != nil {
		if err := f.lookup(ctx, name); err != nil {
			return nil, err
		}
	}
	return f.Dir.Lookup(ctx, name)
}

func (f *fussy) List(ctx context.Context) (vfs.Listing, error) {
	if f.list != nil {
		f.list()
	}
	return f.Dir.List(ctx)
}

// TestReplaceFaulty would catch a tree whose look-ups fail or panic and that is then shown for ever, or as if
// nothing were in it, or that ends the process.
func TestReplaceFaulty(t *testing.T) {
	log := &lines{}
	files := map[string]memfs.File{"d/e/f": file(1, 10)}
	dir, s := show(t, memfs.New(files), Config{Log: slog.New(slog.NewTextHandler(log, nil))})
	wants(t, dir, files)
	for _, c := range []struct {
		name   string
		lookup func(context.Context, string) error
		want   syscall.Errno
	}{
		{"fails", func(context.Context, string) error { return vfs.ErrTimeout }, unix.EIO},
		{"panics", func(context.Context, string) error { panic("a fault") }, unix.EIO},
	} {
		s.Replace(&fussy{Dir: memfs.New(files), lookup: c.lookup})
		if _, err := os.ReadFile(path(dir, "d/e/f")); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
		young := map[string]memfs.File{"d/e/f": file(2, 20), "d/e/g": file(2, 1)}
		s.Replace(memfs.New(young))
		wants(t, dir, young)
	}
	if !strings.Contains(log.String(), "a fault") {
		t.Errorf("nothing is said of a panic: %s", log)
	}
}

// TestReplaceWaits would catch a look-up of the tree before that is answered after its names were taken back,
// and so stays; and a Replace that holds up an unmount.
func TestReplaceWaits(t *testing.T) {
	gate, asked := make(chan struct{}), make(chan struct{}, 8)
	slow := func(ctx context.Context, name string) error {
		asked <- struct{}{}
		select {
		case <-gate:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	old := &fussy{Dir: memfs.New(map[string]memfs.File{"goes": file(1, 10), "x/f": file(1, 1)}), lookup: slow}
	dir, s := showAlone(t, nil, Config{})
	s.Replace(old)
	results := make(chan error, 2)
	for _, name := range []string{"goes", "comes"} {
		go func() {
			_, err := os.Stat(path(dir, "%s", name))
			results <- err
		}()
		<-asked
	}
	replaced := make(chan struct{})
	young := map[string]memfs.File{"comes": file(2, 10)}
	go func() {
		defer close(replaced)
		s.Replace(memfs.New(young))
	}()
	select {
	case <-replaced:
		t.Error("Replace did not wait for look-ups of the tree before")
	case <-time.After(3 * arrival):
	}
	close(gate)
	<-results
	<-results
	<-replaced
	wants(t, dir, young, "goes")

	gate = make(chan struct{})
	s.Replace(&fussy{Dir: memfs.New(nil), lookup: slow})
	go func() {
		_, err := os.Stat(path(dir, "blocked"))
		results <- err
	}()
	<-asked
	replaced = make(chan struct{})
	go func() {
		defer close(replaced)
		s.Replace(memfs.New(nil))
	}()
	time.Sleep(20 * time.Millisecond)
	unmountWithin(t, s, 3*time.Second)
	select {
	case <-replaced:
	case <-time.After(time.Second):
		t.Error("Replace outlives the mount")
	}
	<-results
}
