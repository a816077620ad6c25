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
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// vandal damages files of a cache until stop is called, which says how many.
func vandal(t *testing.T, dir string) (stop func() int) {
	done, ended := make(chan struct{}), make(chan struct{})
	damaged := 0
	go func() {
		defer close(ended)
		for {
			select {
			case <-done:
				return
			case <-time.After(2 * time.Millisecond):
			}
			if damageOne(dir) {
				damaged++
			}
		}
	}()
	return func() int {
		close(done)
		<-ended
		return damaged
	}
}

// damageOne flips, tears, shortens or removes something of some file.
func damageOne(dir string) bool {
	var paths []string
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			paths = append(paths, path)
		}
		return nil
	})
	if len(paths) == 0 {
		return false
	}
	path := paths[rand.IntN(len(paths))]
	switch rand.IntN(20) {
	case 0:
		return os.Remove(path) == nil
	case 1:
		info, err := os.Stat(path)
		return err == nil && os.Truncate(path, rand.Int64N(info.Size()+1)) == nil
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return false
	}
	// A flipped bit, or a torn page.
	p := make([]byte, 1<<(12*rand.IntN(2)))
	off := rand.Int64N(info.Size())
	n, _ := f.ReadAt(p, off)
	if n == 0 {
		return false
	}
	p[0] ^= 1 << rand.IntN(8)
	for i := 1; i < n; i++ {
		p[i] = 0
	}
	_, err = f.WriteAt(p[:n], off)
	return err == nil
}

// Catches: a page of a cache that is served damaged, or that fails the read it could be fetched for; by two
// mounts that share the cache.
func (w *world) damaged(t *testing.T) {
	cache := t.TempDir()
	stacks := []*stack{
		w.mount(t, stackConfig{patience: quick, cacheDir: cache, disk: 64 << 20}),
		w.mount(t, stackConfig{patience: quick, cacheDir: cache, disk: 64 << 20, bucket: files}),
	}
	var stops []func()
	for _, s := range stacks {
		stops = append(stops, s.clients(t, 5*time.Second).start())
	}
	time.Sleep(500 * time.Millisecond)
	stop := vandal(t, cache)
	time.Sleep(2 * time.Second)
	for _, s := range stacks {
		if !soon(func() bool { kept := s.disk.Stats(); return kept.Hits > 0 && kept.DamagedPages > 0 }) {
			t.Errorf("the cache was not used, or nothing was found damaged: %+v", s.disk.Stats())
		}
	}
	t.Logf("%d times damaged", stop())
	for _, stop := range stops {
		stop()
	}
	for _, s := range stacks {
		s.readsRight(t)
	}
}

// Catches: a cache that cannot do without its directory.
func (w *world) removed(t *testing.T) {
	s := w.mount(t, stackConfig{patience: quick, cacheDir: filepath.Join(t.TempDir(), "cache"), disk: 64 << 20})
	c := s.clients(t, 5*time.Second)
	stop := c.start()
	for range 4 {
		time.Sleep(400 * time.Millisecond)
		if err := os.RemoveAll(s.cache); err != nil && !errors.Is(err, unix.ENOTEMPTY) { // Pages came meanwhile.
			t.Error(err)
		}
	}
	stop()
	s.readsRight(t)
}

// Catches: what is not kept, filled, or asked of the source all the same; what is kept, not found, or damaged and
// read.
func (w *world) offline(t *testing.T) {
	s := w.mount(t, stackConfig{patience: quick, disk: 64 << 20})
	online := s.clients(t, 5*time.Second)
	online.read(time.Second)
	kept := w.reference.layouts["tiles"][0]
	if err := s.readOnce(kept.path, make([]byte, kept.size), 0); err != nil {
		t.Fatal(err)
	}
	s.close(t)
	s.bender.set(func(http.ResponseWriter, *http.Request, http.HandlerFunc) {
		t.Error("the source was asked")
		panic(http.ErrAbortHandler)
	})

	s = s.again(t, stackConfig{bucket: bucket, disk: 64 << 20})
	got, want := make([]byte, kept.size), make([]byte, kept.size)
	kept.want(t, want, 0)
	if err := s.readOnce(kept.path, got, 0); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s, which was read before: %v", kept.path, err)
	}
	c := s.clients(t, time.Second, unix.EIO)
	stop := c.start()
	time.Sleep(500 * time.Millisecond)
	stopDamage := vandal(t, s.cache)
	time.Sleep(time.Second)
	stopDamage()
	stop()
	if tl := c.tally(); tl.right == 0 || tl.failed == 0 {
		t.Errorf("not some reads right, and others failed: %v", tl)
	}
}

const namespaceVariable = "TESSERAFS_FAULTS_NAMESPACE"

// withMounts runs a test again, in a process whose mounts are its own and go with it; there it gives true.
func withMounts(t *testing.T) bool {
	t.Helper()
	if os.Getenv(namespaceVariable) != "" {
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			t.Fatal(err)
		}
		return true
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), namespaceVariable+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	if os.Geteuid() != 0 {
		// As root of a namespace of users, who may mount there.
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Errorf("%v\n%s", err, out)
	} else {
		t.Logf("%s", out)
	}
	return false
}

// Catches: a full disk that fails reads, or that leaves pages which are read wrong.
func TestFullDisk(t *testing.T) {
	if !withMounts(t) {
		return
	}
	cache := t.TempDir()
	if err := unix.Mount("tmpfs", cache, "tmpfs", 0, "size=2m,mode=0700"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(cache, unix.MNT_DETACH) })
	w := newWorld(t)
	before := usageNow()
	t.Run("reads", func(t *testing.T) {
		s := w.mount(t, stackConfig{patience: quick, cacheDir: cache, disk: 64 << 20})
		c := s.clients(t, 5*time.Second)
		stop := c.start()
		time.Sleep(2 * time.Second)
		if !soon(func() bool { kept := s.disk.Stats(); return kept.BytesWritten > 0 && kept.WriteFailures > 0 }) {
			t.Errorf("the disk was not used, or not full: %+v", s.disk.Stats())
		}
		stop()
		s.readsRight(t)
	})
	before.isBack(t)
}
