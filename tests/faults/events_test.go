package faults_test

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tesserafs/tesserafs/tilecache/source/patient"
)

// Catches: see each event.
func TestEvents(t *testing.T) {
	w := newWorld(t)
	together(t, []test{
		{"the gateway is killed and restarted", w.killed},
		{"the host's name stops resolving", w.nameless},
		{"the source refuses connections for good", w.refused},
		{"the source is silent for good", w.mute},
		{"an object with an ETag changes", func(t *testing.T) { w.changed(t, true) }},
		{"an object without an ETag changes", func(t *testing.T) { w.changed(t, false) }},
		{"an object is deleted", w.deleted},
		{"the server asks to be left alone", w.busy},
		{"faults while the archive is opened", func(t *testing.T) { w.opened(t, true) }},
		{"faults while the archive is scanned", func(t *testing.T) { w.opened(t, false) }},
		{"the mount ends while the source is silent", w.unmounted},
		{"the cache's files are damaged", w.damaged},
		{"the cache's directory is removed", w.removed},
		{"nobody is asked", w.offline},
	})
}

// Catches: readers that are told of a short trouble, and bytes of a connection that died with the server.
func (w *world) killed(t *testing.T) {
	own := startGateway(t)
	own.Bucket(files, w.dir, true)
	s := w.mount(t, stackConfig{gateway: own, bucket: files, direct: true, patience: with(func(c *patient.Config) {
		c.DeadAfter, c.Patience = 10*time.Second, 30*time.Second
	})})
	c := s.clients(t, 15*time.Second)
	stop := c.start()
	for range 2 {
		time.Sleep(time.Second)
		own.Stop()
		time.Sleep(500 * time.Millisecond)
		own.Start()
	}
	time.Sleep(time.Second)
	stop()
	s.readsRight(t)
}

// Catches: a busy server that is asked again before the time it said, by readers that are told of it, or not at
// all.
func (w *world) busy(t *testing.T) {
	s := w.mount(t, stackConfig{patience: quick})
	const after = time.Second
	var mu sync.Mutex
	last := map[string]time.Time{} // when a request was refused
	refused, early := 0, 0
	s.bender.set(func(rw http.ResponseWriter, r *http.Request, ask http.HandlerFunc) {
		key := r.URL.Path + " " + r.Header.Get("Range")
		mu.Lock()
		at, was := last[key]
		delete(last, key)
		if was && time.Since(at) < after {
			early++
		}
		refuse := rand.IntN(5) == 0
		if refuse {
			refused++
			last[key] = time.Now()
		}
		mu.Unlock()
		if refuse {
			refusing(http.StatusTooManyRequests, "1")(rw, r, ask)
			return
		}
		ask(rw, r)
	})
	c := s.clients(t, 10*time.Second)
	c.read(4 * time.Second)
	s.bender.set(nil)
	s.readsRight(t)
	mu.Lock()
	defer mu.Unlock()
	// One request in twenty may be sent twice.
	if refused == 0 || early > refused/5 {
		t.Errorf("of %d requests that were refused for %v, %d came again before that", refused, after, early)
	}
}

// Catches: a listing or a manifest that is cut short and taken for whole, so that tiles are not shown.
func (w *world) opened(t *testing.T, manifest bool) {
	name := bucket
	if !manifest {
		name = "without-manifests"
		dir := t.TempDir()
		err := fs.WalkDir(os.DirFS(w.dir), ".", func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || filepath.Ext(path) == ".parquet" {
				return err
			}
			there := filepath.Join(dir, path)
			return errors.Join(os.MkdirAll(filepath.Dir(there), 0o755), os.Link(filepath.Join(w.dir, path), there))
		})
		if err != nil {
			t.Fatal(err)
		}
		w.gateway.Bucket(name, dir, true)
	}
	for range 3 {
		s := w.mount(t, stackConfig{patience: quick, bucket: name,
			bend: both(sometimes(0.2, truncated), sometimes(0.1, refusing(http.StatusServiceUnavailable, "")))})
		s.bender.set(nil)
		for _, layout := range w.reference.names {
			for _, b := range w.reference.layouts[layout] {
				info, err := os.Stat(filepath.Join(s.dir, b.path))
				if err != nil || info.Size() != b.size {
					t.Fatalf("%s is not shown as it should be: %v, %v", b.path, info, err)
				}
			}
		}
		s.readsRight(t)
	}
}

// deadWithin is how long after the source's end readers may be kept waiting for the news: until it is given
// up for dead, and one request that began before that.
func deadWithin(cfg patient.Config) time.Duration {
	return cfg.DeadAfter + cfg.FirstByte + 2*time.Second
}

// dies has the source end while clients read, and sees that they hear of it soon, and at once when it is
// known.
func (s *stack) dies(t *testing.T, end func()) {
	t.Helper()
	c := s.clients(t, deadWithin(quick), unix.EIO)
	stop := c.start()
	time.Sleep(time.Second)
	end()
	ended := time.Now()
	for s.source.Stats().Breaker.State != "dead" {
		if time.Since(ended) > c.within {
			t.Errorf("the source is not given up for dead after %v", time.Since(ended))
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Logf("given up for dead after %v", time.Since(ended).Round(time.Millisecond))
	stop()
	c = s.clients(t, 2*time.Second, unix.EIO)
	c.read(time.Second)
	if tl := c.tally(); tl.errors[unix.EIO] == 0 {
		t.Error("nothing fails, though the source is dead")
	}
	if failures := s.tree.Status().FailedTiles; len(failures) == 0 {
		t.Error("the status does not list what could not be read")
	}
}

// Catches: readers that each wait for all patience; a source that is not found alive again; an end that
// waits for the dead.
func (w *world) refused(t *testing.T) {
	s := w.mount(t, stackConfig{patience: quick})
	s.dies(t, func() { s.line.cut(t) })
	s.line.set(t)
	s.readsRight(t)
	s.dies(t, func() { s.line.cut(t) })
	begun := time.Now()
	s.close(t)
	if took := time.Since(begun); took > 5*time.Second*slower {
		t.Errorf("closing took %v", took)
	}
}

// Catches: the same where nothing says that the source is gone. And a reader that cannot be killed.
func (w *world) mute(t *testing.T) {
	s := w.mount(t, stackConfig{patience: quick})
	s.dies(t, func() { s.line.set(t, nothingComes) })
	s.line.set(t)
	s.readsRight(t)

	s.line.set(t, nothingComes)
	s.killClients(t, time.Second*slower, 300*time.Millisecond)
	s.line.set(t)
	s.readsRight(t)
}

// killClients has clients of their own processes read, and kills them after a pause: they must be gone at once.
func (s *stack) killClients(t *testing.T, within, pause time.Duration) {
	t.Helper()
	var clients []*exec.Cmd
	for range 4 {
		books := s.w.reference.layouts["zones"]
		client := exec.Command("cat", filepath.Join(s.dir, books[rand.IntN(len(books))].path))
		if err := client.Start(); err != nil {
			t.Fatal(err)
		}
		clients = append(clients, client)
	}
	time.Sleep(pause)
	begun := time.Now()
	for _, client := range clients {
		_ = client.Process.Kill()
		_ = client.Wait() // Some may have ended by themselves.
	}
	if took := time.Since(begun); took > within {
		t.Errorf("clients were killed while they read, and are gone after %v", took)
	}
}

var nothingComes = toxic{Type: "timeout", Attributes: attributes{"timeout": 0}}

// Catches: an unmount that waits for the source, and reads that go on after it for ever.
func (w *world) unmounted(t *testing.T) {
	s := w.mount(t, stackConfig{patience: with(func(c *patient.Config) {
		c.FirstByte, c.DeadAfter, c.Patience = time.Minute, time.Minute, time.Minute
	})})
	s.line.set(t, nothingComes)
	var running sync.WaitGroup
	for _, b := range w.reference.layouts["tiles"][:readers] {
		f, err := os.Open(filepath.Join(s.dir, b.path))
		if err != nil {
			t.Fatal(err)
		}
		running.Go(func() {
			defer f.Close()
			want := make([]byte, min(b.size, mostRead))
			got := make([]byte, len(want))
			b.want(t, want, 0)
			if n, err := f.ReadAt(got, 0); !bytes.Equal(got[:n], want[:n]) || err != nil &&
				!errors.Is(err, unix.EIO) && !errors.Is(err, unix.ENOTCONN) && !errors.Is(err, unix.ECONNABORTED) {
				t.Errorf("%s: %d bytes, %v", b.path, n, err)
			}
		})
	}
	time.Sleep(500 * time.Millisecond)
	begun := time.Now()
	if err := s.server.Unmount(); err != nil {
		t.Errorf("unmount: %v", err)
	}
	running.Wait()
	if took := time.Since(begun); took > 5*time.Second*slower {
		t.Errorf("unmounting took %v", took)
	}
}

// Catches: a name that is asked for once and kept as unknown; readers that wait for a name server that does
// not answer; a name server's failure that is told as a tile that is not there.
func (w *world) nameless(t *testing.T) {
	defer nameServer.set(named)
	s := w.mount(t, stackConfig{web: true, patience: quick})
	for _, phase := range []struct {
		how     int32
		lasts   time.Duration
		allowed []unix.Errno
	}{
		{failing, 1500 * time.Millisecond, nil}, // is waited out
		{unknown, time.Second * slower, []unix.Errno{unix.EIO}},
		{mute, 5 * time.Second, []unix.Errno{unix.EIO}},
	} {
		c := s.clients(t, deadWithin(quick), phase.allowed...)
		stop := c.start()
		time.Sleep(300 * time.Millisecond)
		nameServer.set(phase.how)
		s.line.set(t) // What is connected needs no name.
		time.Sleep(phase.lasts)
		nameServer.set(named)
		stop()
		if tl := c.tally(); phase.allowed != nil && tl.failed == 0 {
			t.Error("nothing has failed")
		}
		s.readsRight(t)
	}
}
