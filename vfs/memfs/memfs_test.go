package memfs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/tesserafs/tesserafs/vfs"
	"github.com/tesserafs/tesserafs/vfs/memfs"
	"github.com/tesserafs/tesserafs/vfs/vfstest"
)

// TestTree runs files of every kind through the suite for trees. It would catch a tree in memory
// that breaks the contract in the place of the door that is tested with it.
func TestTree(t *testing.T) {
	files := map[string]memfs.File{
		"empty/":  {},
		"hidden":  {Hidden: true},
		"status":  {Content: func() []byte { return []byte("{}") }},
		"x/attrs": {Xattrs: map[string]string{"user.tesserafs.tiles": "grid_0.15_52.05"}},
	}
	rng := rand.NewChaCha8([32]byte{})
	for _, size := range []int{0, 1, 1000, 4096, 50_000, 9 << 20} {
		data := make([]byte, size)
		_, _ = rng.Read(data)
		for off := 0; off < size; off += 9000 {
			clear(data[off:min(off+5000, size)])
		}
		files[fmt.Sprintf("plain/%d", size)] = memfs.File{Data: data}
		files[fmt.Sprintf("sparse/%d", size)] = memfs.File{Data: data, Block: 4096}
		if size <= 1<<20 { // one of those that are not read whole is enough
			files[fmt.Sprintf("fine/%d", size)] = memfs.File{Data: data, Block: 512}
		}
	}
	files["zeros"] = memfs.File{Data: make([]byte, 10_000), Block: 4096}
	vfstest.TestTree(t, memfs.New(files))
}

// TestInterfaces would catch a file that has an interface it was not asked to have, which would
// hide a fault of a door in serving plain files.
func TestInterfaces(t *testing.T) {
	for want, file := range map[bool]memfs.File{false: {}, true: {Block: 1}} {
		node, err := vfs.Walk(t.Context(), memfs.New(map[string]memfs.File{"f": file}), "f")
		if err != nil {
			t.Fatal(err)
		}
		if _, sparse := node.(vfs.Sparse); sparse != want {
			t.Errorf("%+v: Sparse %v", file, sparse)
		}
	}
}

// TestHooks would catch misbehaviour that does not happen.
func TestHooks(t *testing.T) {
	boom := errors.New("boom")
	read := func(ctx context.Context, hook memfs.Hook) (got []byte, err error) {
		defer func() {
			if v := recover(); v != nil {
				err = v.(error)
			}
		}()
		node, err := vfs.Walk(ctx, memfs.New(map[string]memfs.File{"f": {Data: []byte("data"), Before: hook}}), "f")
		if err != nil {
			return nil, err
		}
		got = make([]byte, 4)
		_, err = node.(vfs.File).ReadAt(ctx, got, 0)
		return got, err
	}
	gate := make(chan struct{})
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := read(t.Context(), memfs.Fail(boom)); err != boom {
		t.Errorf("fail: %v", err)
	}
	if _, err := read(t.Context(), memfs.Panic(boom)); err != boom {
		t.Errorf("panic: %v", err)
	}
	if _, err := read(cancelled, memfs.Wait(gate)); !errors.Is(err, context.Canceled) {
		t.Errorf("wait, cancelled: %v", err)
	}
	close(gate)
	if got, err := read(t.Context(), memfs.Wait(gate)); err != nil || !bytes.Equal(got, []byte("data")) {
		t.Errorf("wait: %q, %v", got, err)
	}
}

// TestImpossible would catch a tree that is made from paths that contradict each other.
func TestImpossible(t *testing.T) {
	for _, paths := range [][]string{{"a", "a/b"}, {""}, {"/"}, {"a//b"}, {"../a"}, {"."}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%q: no panic", paths)
				}
			}()
			files := map[string]memfs.File{}
			for _, p := range paths {
				files[p] = memfs.File{}
			}
			memfs.New(files)
		}()
	}
}
