package fusefs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"weak"

	"golang.org/x/sys/unix"

	"github.com/tesserafs/tesserafs/vfs/memfs"
)

// stamped is n bytes of which every eight say of which tree they are, and where.
func stamped(tree, n int) []byte {
	p := make([]byte, n)
	for i := 0; i+8 <= n; i += 8 {
		binary.LittleEndian.PutUint64(p[i:], uint64(tree)<<32|uint64(i))
	}
	return p
}

// crowdFiles, crowdNames: of each tree; sizes differ from tree to tree.
const crowdFiles, crowdNames = 6, 400

func crowdSize(tree, i int) int { return (i+1)*400_000 + tree*8 }

func crowdTree(tree int) map[string]memfs.File {
	files := map[string]memfs.File{fmt.Sprintf("only/%d", tree): {}}
	for i := range crowdFiles {
		files[fmt.Sprintf("f/%d", i)] = memfs.File{Data: stamped(tree, crowdSize(tree, i))}
	}
	for i := range crowdNames {
		files[fmt.Sprintf("d/%d.%d", tree, i)] = memfs.File{}
	}
	return files
}

// readStamped reads some of an open file and returns of which tree it is, -1 for none.
func readStamped(f *os.File, rng *rand.Rand, p []byte) (int, error) {
	tree := -1
	for range 1 + rng.IntN(6) {
		off := int64(rng.IntN(300_000) * 8)
		n, err := f.ReadAt(p, off)
		if err != nil && err != io.EOF {
			return tree, err
		}
		for i := 0; i+8 <= n; i += 512 { // a page that is of another tree is so whole
			v := binary.LittleEndian.Uint64(p[i:])
			if tree < 0 {
				tree = int(v >> 32)
			}
			if v != uint64(tree)<<32|uint64(off+int64(i)) {
				return tree, fmt.Errorf("at %d lies %#x, in a file of tree %d", off+int64(i), v, tree)
			}
		}
		if tree < 0 && off == 0 {
			return -1, errors.New("nothing at the beginning")
		}
	}
	return tree, nil
}

// readListing reads a directory, of which all names must be of one tree.
func readListing(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	var names []string
	for {
		some, err := f.Readdirnames(1 + len(names))
		names = append(names, some...)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	tree, _, _ := strings.Cut(names[0], ".")
	for i, name := range names {
		if !strings.HasPrefix(name, tree+".") {
			return fmt.Errorf("name %d, %s, is in a listing of tree %s", i, name, tree)
		}
	}
	if len(names) != crowdNames {
		return fmt.Errorf("%d names of %d", len(names), crowdNames)
	}
	return nil
}

// TestReplaceCrowd would catch any order of opens, reads, stats, listings, closes and replacements in which an
// open file or a listing is of two trees, anything fails but with ESTALE, something old is seen by who looks
// when Replace has returned, or something of an old tree stays in memory.
func TestReplaceCrowd(t *testing.T) {
	t.Run("plain", func(t *testing.T) { testReplaceCrowd(t, Config{}, 20) })
	t.Run("hot", func(t *testing.T) { testReplaceCrowd(t, Config{HotBytes: 5 << 20}, 10) })
}

func testReplaceCrowd(t *testing.T, cfg Config, trees int) {
	dir, s := show(t, memfs.New(crowdTree(0)), cfg)
	var stop atomic.Bool
	var wg sync.WaitGroup
	var opens, stale, seen atomic.Int64
	for g := range uint64(8) {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(g, 2))
			p := make([]byte, 100_000)
			held := map[*os.File]int{}
			check := func(what string, err error) {
				switch {
				case err == nil:
				case errors.Is(err, unix.ESTALE):
					stale.Add(1)
				default:
					t.Errorf("%s: %v", what, err)
				}
			}
			for !stop.Load() {
				time.Sleep(time.Millisecond) // the one who replaces needs a processor, too
				switch name := path(dir, "f/%d", rng.IntN(crowdFiles)); rng.IntN(6) {
				case 0:
					_, err := os.Stat(name)
					check("stat", err)
				case 1:
					check("list", readListing(path(dir, "d")))
				case 2:
					_, err := os.Stat(path(dir, "only/%d", rng.IntN(trees+1)))
					if !errors.Is(err, os.ErrNotExist) {
						check("absent", err)
					}
				default:
					f, err := os.Open(name)
					check("open", err)
					if err != nil {
						continue
					}
					opens.Add(1)
					tree, err := readStamped(f, rng, p)
					check("read", err)
					seen.Store(max(seen.Load(), int64(tree)))
					held[f] = tree
				}
				for f, was := range held {
					if rng.IntN(3) > 0 {
						continue
					}
					tree, err := readStamped(f, rng, p)
					check("read again", err)
					if was >= 0 && tree >= 0 && tree != was {
						t.Errorf("an open file of tree %d is now of tree %d", was, tree)
					}
					check("close", f.Close())
					delete(held, f)
				}
			}
			for f := range held {
				_ = f.Close()
			}
		})
	}
	rng := rand.New(rand.NewPCG(100, 2))
	p := make([]byte, 100_000)
	var old []weak.Pointer[byte]
	var released []<-chan struct{}
	for tree := 1; tree <= trees; tree++ {
		files := crowdTree(tree)
		if tree < trees {
			old = append(old, weak.Make(&files["f/0"].Data[0]), weak.Make(&files["f/4"].Data[0]))
		}
		released = append(released, s.Replace(memfs.New(files)))
		for i := range crowdFiles {
			name := path(dir, "f/%d", i)
			info, err := os.Stat(name)
			if err != nil || info.Size() != int64(crowdSize(tree, i)) {
				t.Errorf("tree %d: stat of %s: %v, %v", tree, name, info, err)
			}
			f, err := os.Open(name)
			if err != nil {
				t.Errorf("tree %d: %v", tree, err)
				continue
			}
			if got, err := readStamped(f, rng, p); err != nil || got != tree && got != -1 {
				t.Errorf("tree %d: %s is of tree %d, %v", tree, name, got, err)
			}
			_ = f.Close()
		}
		for name, want := range map[string]bool{"only/%d": true, "d/%d.7": true} {
			for other, want := range map[int]bool{tree: want, tree - 1: !want, tree + 1: !want} {
				if _, err := os.Stat(path(dir, name, other)); (err == nil) != want || err != nil && !errors.Is(err, os.ErrNotExist) {
					t.Errorf("tree %d: "+name+": %v", tree, other, err)
				}
			}
		}
		if entries, err := os.ReadDir(path(dir, "d")); err != nil || !strings.HasPrefix(entries[0].Name(), fmt.Sprint(tree, ".")) {
			t.Errorf("tree %d: the listing begins %v, %v", tree, entries[0], err)
		}
	}
	stop.Store(true)
	wg.Wait()
	closed(t, s)
	for _, r := range released {
		select {
		case <-r:
		case <-time.After(5 * time.Second):
			t.Fatal("a tree is not released")
		}
	}
	t.Logf("%d opens, %d stale, %+v", opens.Load(), stale.Load(), s.Stats())
	if opens.Load() < 100 || seen.Load() != int64(trees) {
		t.Errorf("%d opens, the last tree seen is %d: the test tests nothing", opens.Load(), seen.Load())
	}
	if stale.Load() > opens.Load()/100 {
		t.Errorf("%d of %d opens are stale", stale.Load(), opens.Load())
	}
	until(t, "old trees are forgotten", func() bool {
		runtime.GC()
		n := 0
		for _, w := range old {
			if w.Value() != nil {
				n++
			}
		}
		return n == 0
	})
	if s.hot != nil {
		until(t, "copies of old trees go", func() bool {
			s.hot.mu.Lock()
			defer s.hot.mu.Unlock()
			for c := range s.hot.copies {
				if c.node.replaced() {
					return false
				}
			}
			return s.hot.used <= s.hot.budget
		})
	}
}

// TestReplaceMany would catch a Replace that takes long, or leaves something, where the kernel knows much.
func TestReplaceMany(t *testing.T) {
	const dirs, each, probes = 50, 100, 50
	tree := func(n int) map[string]memfs.File {
		files := map[string]memfs.File{}
		for d := range dirs {
			for i := range each {
				files[fmt.Sprintf("%d/%d", d, i)] = memfs.File{Data: make([]byte, n)}
			}
		}
		return files
	}
	look := func(dir string, size int64) {
		t.Helper()
		for d := range dirs {
			for i := range each + probes {
				info, err := os.Stat(path(dir, "%d/%d", d, i))
				if i < each && (err != nil || info.Size() != size) || i >= each && !errors.Is(err, os.ErrNotExist) {
					t.Fatalf("%d/%d: %v, %v", d, i, info, err)
				}
			}
		}
	}
	dir, s := show(t, memfs.New(tree(1)), Config{})
	look(dir, 1)
	for n := 2; n < 5; n++ {
		if got := s.absent.Load(); got != dirs*probes {
			t.Errorf("%d absences are remembered, want %d", got, dirs*probes)
		}
		begin := time.Now()
		s.Replace(memfs.New(tree(n)))
		took := time.Since(begin)
		t.Logf("Replace with %d files and %d absences known took %v", dirs*each, dirs*probes, took)
		if took > 5*time.Second {
			t.Errorf("Replace took %v", took)
		}
		if got := s.absent.Load(); got != 0 {
			t.Errorf("%d absences are remembered after Replace", got)
		}
		look(dir, int64(n))
	}
	s.Replace(memfs.New(nil))
	until(t, "all nodes are forgotten", func() bool { return len(s.root.Children()) == 0 })
}
