package fusefs

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tesserafs/tesserafs/vfs/memfs"
)

// showAlone mounts a tree without ending it.
func showAlone(t *testing.T, files map[string]memfs.File, cfg Config) (string, *Server) {
	t.Helper()
	dir := t.TempDir()
	s, err := Mount(dir, memfs.New(files), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Unmount() })
	return dir, s
}

// unmountWithin unmounts and checks that it is over in time.
func unmountWithin(t *testing.T, s *Server, most time.Duration) {
	t.Helper()
	begin := time.Now()
	if err := s.Unmount(); err != nil {
		t.Errorf("unmount: %v", err)
	}
	if took := time.Since(begin); took > most {
		t.Errorf("unmount took %v, more than %v", took, most)
	}
	if _, ok := Mounted(s.dir); ok {
		t.Error("it is still mounted")
	}
	select {
	case <-s.done:
	default:
		t.Error("it is still serving")
	}
	if err := s.Wait(); err != nil {
		t.Errorf("wait: %v", err)
	}
	if err := s.Unmount(); err != nil {
		t.Errorf("second unmount: %v", err)
	}
}

// sit puts a shell into a directory until the test ends.
func sit(t *testing.T, dir string) {
	t.Helper()
	cmd := exec.Command("sh", "-c", `cd "$1" && echo here && exec sleep 100`, "sh", dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "here\n" {
		t.Fatalf("the shell says %q, %v", line, err)
	}
}

// TestUnmountIdle would catch an unmount that waits for nothing, or loops that go on.
func TestUnmountIdle(t *testing.T) {
	for _, hot := range []int64{0, 1 << 30} {
		dir, s := showAlone(t, map[string]memfs.File{"f": {Data: noise(2 << 20)}}, Config{HotBytes: hot})
		readWhole(t, path(dir, "f"), noise(2<<20))
		unmountWithin(t, s, time.Second)
	}
}

// TestUnmountSitting would catch an unmount that fails, or waits, because a shell sits there.
func TestUnmountSitting(t *testing.T) {
	dir, s := showAlone(t, map[string]memfs.File{"sub/f": {}}, Config{})
	sit(t, path(dir, "sub"))
	unmountWithin(t, s, 2*time.Second)
}

// TestUnmountReading would catch clients that wait for ever for a tree that no longer answers, and
// those that are cut off though they would have finished in time.
func TestUnmountReading(t *testing.T) {
	for _, c := range []struct {
		name   string
		takes  time.Duration // what the tree needs for the read
		want   bool          // the client gets it
		within time.Duration
	}{
		{"soon done", 500 * time.Millisecond, true, 2 * time.Second},
		{"stuck", time.Hour, false, 4 * time.Second},
	} {
		for _, size := range []int{100_000, 1 << 20} {
			t.Run(fmt.Sprintf("%s, %d bytes", c.name, size), func(t *testing.T) {
				waiting := make(chan struct{}, 10)
				data := noise(size)
				dir, s := showAlone(t, map[string]memfs.File{"f": {Data: data, Before: func(ctx context.Context, off int64, n int) error {
					if off > 0 {
						return nil
					}
					waiting <- struct{}{}
					select {
					case <-time.After(c.takes):
						return nil
					case <-ctx.Done():
						return ctx.Err()
					}
				}}}, Config{})
				reader := exec.Command("cat", path(dir, "f"))
				var out, fail bytes.Buffer
				reader.Stdout, reader.Stderr = &out, &fail
				if err := reader.Start(); err != nil {
					t.Fatal(err)
				}
				<-waiting
				unmountWithin(t, s, c.within)
				err := reader.Wait()
				if got := err == nil && bytes.Equal(out.Bytes(), data); got != c.want {
					t.Errorf("the client: %d bytes, %v, %s", out.Len(), err, fail.String())
				}
			})
		}
	}
}

// TestUnmountDeaf would catch an unmount that hangs on a tree that does not listen to contexts. Its
// client must not hang either.
func TestUnmountDeaf(t *testing.T) {
	gate, waiting := make(chan struct{}), make(chan struct{}, 10)
	dir, s := showAlone(t, map[string]memfs.File{"f": {Data: noise(100), Before: func(context.Context, int64, int) error {
		waiting <- struct{}{}
		<-gate
		return nil
	}}}, Config{})
	reader := exec.Command("cat", path(dir, "f"))
	if err := reader.Start(); err != nil {
		t.Fatal(err)
	}
	<-waiting
	begin := time.Now()
	err := s.Unmount()
	if err == nil || !strings.Contains(err.Error(), "does not end") {
		t.Errorf("unmount: %v", err)
	}
	if took := time.Since(begin); took > 3*grace {
		t.Errorf("it took %v", took)
	}
	if err := reader.Wait(); err == nil {
		t.Error("the client succeeded")
	}
	close(gate)
	unmountWithin(t, s, time.Second)
}

// TestUnmountByOthers would catch a Wait that does not notice, and an Unmount that then takes away
// what is mounted there since.
func TestUnmountByOthers(t *testing.T) {
	dir, s := showAlone(t, map[string]memfs.File{"f": {}}, Config{HotBytes: 1 << 20})
	waited := make(chan error)
	go func() { waited <- s.Wait() }()
	if out, err := exec.Command("fusermount3", "-u", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	select {
	case err := <-waited:
		if err != nil {
			t.Errorf("wait: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("wait does not return")
	}
	later, err := Mount(dir, memfs.New(nil), Config{FsName: "later"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Unmount(); err != nil {
		t.Errorf("unmount: %v", err)
	}
	if name, ok := Mounted(dir); name != "later" || !ok {
		t.Error("the later mount is gone")
	}
	end(t, later)
}

// TestUnmountTogether would catch two unmounts that get into each other's way.
func TestUnmountTogether(t *testing.T) {
	dir, s := showAlone(t, map[string]memfs.File{"f": {}}, Config{})
	sit(t, dir)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := s.Unmount(); err != nil {
				t.Errorf("unmount: %v", err)
			}
		})
	}
	wg.Wait()
}

// TestAborted would catch a server that goes on, or says that all is well, when an administrator
// has cut its connection: the dead mount is still there.
func TestAborted(t *testing.T) {
	log := &lines{}
	dir, s := showAlone(t, map[string]memfs.File{"f": {}}, Config{Log: slog.New(slog.NewTextHandler(log, nil))})
	if err := abort(s.dev); err != nil {
		t.Fatal(err)
	}
	oneLine(t, s.Wait(), "was aborted")
	if stale, err := Stale(dir); !stale || err != nil {
		t.Errorf("stale %v, %v", stale, err)
	}
	if err := s.Unmount(); err != nil {
		t.Errorf("unmount: %v", err)
	}
	if _, ok := Mounted(dir); ok {
		t.Error("it is still mounted")
	}
	if _, err := os.ReadDir(dir); err != nil {
		t.Errorf("the directory below: %v", err)
	}
	if err := abort(s.dev); err != nil {
		t.Errorf("abort of what has ended: %v", err)
	}
}

// TestUnmountCopied would catch a hang where another mount namespace, as a container has, still
// shows the tree.
func TestUnmountCopied(t *testing.T) {
	if os.Geteuid() != 0 {
		return // only root may
	}
	dir, s := showAlone(t, map[string]memfs.File{"f": {Data: []byte("data")}}, Config{})
	marker := path(t.TempDir(), "ready")
	copied := exec.Command("unshare", "-m", "--propagation", "private", "sh", "-c", `cat "$1/f" > "$2"; exec sleep 100`, "sh", dir, marker)
	if err := copied.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = copied.Process.Kill()
		_ = copied.Wait()
	}()
	until(t, "read in the other namespace", func() bool {
		got, err := os.ReadFile(marker)
		return err == nil && string(got) == "data"
	})
	unmountWithin(t, s, 2*time.Second)
}
