package fusefs

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/tesserafs/tesserafs/vfs"
	"github.com/tesserafs/tesserafs/vfs/memfs"
)

// numbered is a tree of n files named for it. asked counts who lists it.
func numbered(tree, n int, asked *atomic.Int64) vfs.Dir {
	files := map[string]memfs.File{}
	for i := range n {
		files[fmt.Sprintf("%d.%d", tree, i)] = memfs.File{}
	}
	return &fussy{Dir: memfs.New(files), list: func() { asked.Add(1) }}
}

// listed reads the names of a directory to its end, and checks that they are those of one tree.
func listed(t *testing.T, f *os.File, already []string, tree, n int) {
	t.Helper()
	rest, err := f.Readdirnames(-1)
	if err != nil {
		t.Error(err)
	}
	seen := map[string]bool{}
	for _, name := range append(already, rest...) {
		if !strings.HasPrefix(name, fmt.Sprint(tree, ".")) || seen[name] {
			t.Fatalf("%q is in the listing, again or of another tree than %d", name, tree)
		}
		seen[name] = true
	}
	if len(seen) != n {
		t.Errorf("%d names of %d", len(seen), n)
	}
}

// TestReplaceListing would catch a listing that is of two trees: one that is being read, from the tree or
// from what the kernel keeps, while others are begun and come to an end, and is begun again.
func TestReplaceListing(t *testing.T) {
	t.Run("read", func(t *testing.T) { testReplaceListing(t, false) })
	t.Run("kept", func(t *testing.T) { testReplaceListing(t, true) })
}

func testReplaceListing(t *testing.T, kept bool) {
	const n = 3000
	var asked atomic.Int64
	dir, s := show(t, numbered(0, n, &asked), Config{})
	var held []*os.File
	open := func() *os.File {
		t.Helper()
		f, err := os.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, f)
		return f
	}
	part := func(f *os.File) []string {
		t.Helper()
		names, err := f.Readdirnames(700)
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	for tree := range 4 {
		was, is := n-max(tree-1, 0), n-tree
		if kept {
			listed(t, open(), nil, tree, was)
			before := asked.Load()
			listed(t, open(), nil, tree, was)
			if asked.Load() != before {
				t.Errorf("tree %d: the kernel keeps no listing", tree)
			}
		}
		first, second, unread := open(), open(), open()
		firstPart, secondPart := part(first), part(second)

		released := s.Replace(numbered(tree+1, is, &asked))
		third := open()
		thirdPart := part(third)
		listed(t, first, firstPart, tree, was)
		listed(t, open(), nil, tree+1, is)
		listed(t, third, thirdPart, tree+1, is)
		listed(t, open(), nil, tree+1, is)
		listed(t, second, secondPart, tree, was)
		listed(t, unread, nil, tree+1, is)
		if _, err := first.Seek(0, io.SeekStart); err != nil {
			t.Error(err)
		}
		listed(t, first, nil, tree+1, is)
		listed(t, open(), nil, tree+1, is)
		select {
		case <-released:
			t.Error("the tree is released while a directory of it is open")
		default:
		}
		for _, f := range held {
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		}
		held = nil
		<-released
	}
}
