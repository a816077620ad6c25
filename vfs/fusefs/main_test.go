package fusefs

import (
	"bytes"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/tesserafs/tesserafs/vfs"
	"github.com/tesserafs/tesserafs/vfs/vfstest"
)

// TestMain also runs the clients that must be processes of their own: this binary, started again.
func TestMain(m *testing.M) {
	if name := os.Getenv("FUSEFS_CLIENT"); name != "" {
		os.Exit(runClient(name, os.Args[1:]))
	}
	goleak.VerifyTestMain(m)
}

// show mounts a tree until the test ends, and fails the test if anything but that ends it, or if the
// door logs what it should not.
func show(t testing.TB, root vfs.Dir, cfg Config) (string, *Server) {
	t.Helper()
	dir := t.TempDir()
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.NewTextHandler(&quiet{t: t}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	s, err := Mount(dir, root, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { end(t, s) })
	return dir, s
}

func end(t testing.TB, s *Server) {
	t.Helper()
	if err := s.Unmount(); err != nil {
		t.Errorf("unmount: %v", err)
	}
	if err := s.Wait(); err != nil {
		t.Errorf("wait: %v", err)
	}
	if _, ok := Mounted(s.dir); ok {
		t.Errorf("still mounted on %s", s.dir)
	}
}

// quiet is a log in which only what a test provokes may appear.
type quiet struct{ t testing.TB }

func (q *quiet) Write(p []byte) (int, error) {
	switch line := string(p); {
	case strings.Contains(line, "level=DEBUG"), strings.Contains(line, "told to"):
	default:
		q.t.Errorf("unexpected log line: %s", line)
	}
	return len(p), nil
}

// lines is a log that a test looks at.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// configs are the ways of serving that every client must see the same through.
func configs() map[string]Config {
	return map[string]Config{
		"plain": {},
		"hot":   {HotBytes: 64 << 20},
	}
}

// TestDoor holds the door to what every door is held to.
func TestDoor(t *testing.T) {
	for name, cfg := range configs() {
		t.Run(name, func(t *testing.T) {
			vfstest.TestDoor(t, func(t *testing.T, root vfs.Dir) fs.FS {
				dir, _ := show(t, root, cfg)
				return os.DirFS(dir)
			})
		})
	}
}

// TestDirectory holds it to what a directory of the system does besides.
func TestDirectory(t *testing.T) {
	vfstest.TestDirectory(t, func(t *testing.T, root vfs.Dir) string {
		dir, _ := show(t, root, Config{})
		return dir
	})
}

// noise makes n bytes that are not zero and differ from place to place.
func noise(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(1 + (i*7+i>>8+i>>16*31)%255)
	}
	return p
}

// path joins a name to a mounted directory.
func path(dir string, format string, args ...any) string {
	return filepath.Join(dir, fmt.Sprintf(format, args...))
}
