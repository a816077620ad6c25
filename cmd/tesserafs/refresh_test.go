package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tesserafs/tesserafs/demo"
	"github.com/tesserafs/tesserafs/synth"
	"github.com/tesserafs/tesserafs/vfs/fusefs"
)

// growing makes an archive of one tile that add adds another to.
func growing(t *testing.T) (dir string, add func()) {
	t.Helper()
	cfg := archive4
	cfg.Dir, cfg.Years, cfg.Cells = filepath.Join(t.TempDir(), "archive"), []int{2024}, archive4.Cells[:1]
	write := func() {
		t.Helper()
		if _, err := demo.Write(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
	}
	write()
	return cfg.Dir, func() {
		t.Helper()
		cfg.Cells = archive4.Cells
		write()
	}
}

// tileStore is the path of the per-tile store of one of the cells.
func (p *place) tileStore(cell int) string {
	return filepath.Join(p.mnt, "v1", "tiles", "2024", archive4.Cells[cell].String()+".zarr")
}

// soon waits for something that happens in the mount.
func soon(t *testing.T, what string, done func() bool) {
	t.Helper()
	for range 1000 {
		if done() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%s: did not happen", what)
}

func (p *place) hangUp(pid int) {
	p.t.Helper()
	if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
		p.t.Fatal(err)
	}
}

// refreshed waits for a status.
func (p *place) refreshed(is func(synth.CatalogueStatus) bool) {
	p.t.Helper()
	soon(p.t, "refresh", func() bool { return is(p.status().Catalogue) })
}

// showsTiles checks which of the two cells are shown.
func (p *place) showsTiles(first, second bool) {
	p.t.Helper()
	for cell, want := range []bool{first, second} {
		_, err := os.ReadFile(filepath.Join(p.tileStore(cell), "zarr.json"))
		if (err == nil) != want || err != nil && !os.IsNotExist(err) {
			p.t.Errorf("the store of cell %d is shown: %v (%v), want %v", cell, err == nil, err, want)
		}
	}
}

// Catches: SIGHUP that ends a mount, or is not heeded, in the foreground or as a daemon; a tile that is not shown
// afterwards, figures that are not those of what is shown; a mount that cannot be ended any more.
func TestHangUpRefreshes(t *testing.T) {
	for _, daemon := range []bool{false, true} {
		t.Run(fmt.Sprintf("daemon %v", daemon), func(t *testing.T) {
			p := newPlace(t)
			dir, add := growing(t)
			var f *foreground
			if daemon {
				p.must("mount", "--daemon", dir, p.mnt)
			} else {
				f, _ = p.start(dir, p.mnt)
			}
			pid := p.status().Mount.PID
			p.showsTiles(true, false)
			before := p.status()
			add()
			p.showsTiles(true, false)
			for n := int64(1); n <= 2; n++ { // the second time nothing has changed
				p.hangUp(pid)
				p.refreshed(func(c synth.CatalogueStatus) bool { return c.Refreshed == n })
				p.showsTiles(true, true)
			}
			after := p.status()
			if after.Datasets[0].Tiles != 2 || after.Since != before.Since || after.Catalogue.Failed != 0 || after.Catalogue.Error != "" {
				t.Errorf("status is %+v", after)
			}
			var df unix.Statfs_t
			if err := unix.Statfs(p.mnt, &df); err != nil || int64(df.Blocks)*df.Bsize < after.Datasets[0].Bytes {
				t.Errorf("df shows %d bytes of %d, %v", int64(df.Blocks)*df.Bsize, after.Datasets[0].Bytes, err)
			}
			p.hangUp(pid)
			p.must("unmount", p.mnt)
			if f != nil {
				if r := f.wait(t, 10*time.Second); r.code != exitDone || r.stderr != "" {
					t.Errorf("it ended with %+v", r)
				}
			}
			soon(t, "the end of the process", func() bool { return gone(pid) })
		})
	}
}

// Catches: --refresh that is not heeded, and values of it that cannot be meant.
func TestRefreshInterval(t *testing.T) {
	p := newPlace(t)
	for _, value := range []string{"10ms", "-1h", "hourly", "3600"} {
		p.refuses(exitUsage, []string{"--refresh"}, "mount", "--refresh="+value, archive4.Dir, p.mnt)
	}
	dir, add := growing(t)
	p.must("mount", "--daemon", "--refresh", "1s", dir, p.mnt)
	defer func() { p.must("unmount", p.mnt) }()
	add()
	p.refreshed(func(c synth.CatalogueStatus) bool { return c.Refreshed >= 2 })
	p.showsTiles(true, true)
}

// Catches: an archive that cannot be read and is then not shown any more, a failure that the log and the status
// do not tell in one line, or that the status tells for ever.
func TestRefreshFails(t *testing.T) {
	p := newPlace(t)
	dir, add := growing(t)
	log := filepath.Join(p.home, "log")
	p.must("mount", "--daemon", "--log-file", log, "--log-format", "json", dir, p.mnt)
	defer func() { p.must("unmount", p.mnt) }()
	pid := p.status().Mount.PID
	manifest := archive4.Files(archive4.Cells[0], 2024).Manifest
	manifest = filepath.Join(dir, strings.TrimPrefix(manifest, archive4.Dir))
	for i, spoil := range []func() (repair func() error, err error){
		func() (func() error, error) {
			return func() error { return os.Rename(dir+".away", dir) }, os.Rename(dir, dir+".away")
		},
		func() (func() error, error) {
			data, err := os.ReadFile(manifest)
			if err == nil {
				err = os.WriteFile(manifest, bytes.Repeat([]byte("x"), len(data)), 0o644)
			}
			return func() error { return os.WriteFile(manifest, data, 0o644) }, err
		},
	} {
		repair, err := spoil()
		if err != nil {
			t.Fatal(err)
		}
		p.hangUp(pid)
		p.refreshed(func(c synth.CatalogueStatus) bool { return c.Failed == int64(i+1) })
		if c := p.status().Catalogue; c.Refreshed != int64(i) || !strings.Contains(c.Error, dir) {
			t.Errorf("status is %+v", c)
		}
		p.showsTiles(true, i > 0)
		if err := repair(); err != nil {
			t.Fatal(err)
		}
		add()
		p.hangUp(pid)
		p.refreshed(func(c synth.CatalogueStatus) bool { return c.Refreshed == int64(i+1) && c.Error == "" })
		p.showsTiles(true, true)
	}
	data, err := os.ReadFile(log)
	if n := bytes.Count(data, []byte("could not be read again")); err != nil || n != 2 {
		t.Errorf("the log tells of %d failures, want 2 (%v):\n%s", n, err, data)
	}
}

// Catches: a mount that is unmounted while it reads the archive again, and does not end for it.
func TestUnmountWhileRefreshing(t *testing.T) {
	dir, _ := growing(t)
	for _, unmount := range []bool{true, false} {
		for range 5 {
			p := newPlace(t)
			f, _ := p.start(dir, p.mnt)
			p.showsTiles(true, false)
			p.hangUp(f.cmd.Process.Pid)
			if unmount {
				if err := fusefs.Detach(p.mnt); err != nil {
					t.Fatal(err)
				}
			} else if err := f.cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if r := f.wait(t, 5*time.Second); r.code != exitDone || r.stderr != "" {
				t.Errorf("it ended with %+v", r)
			}
		}
	}
}

// Catches: a mount in the foreground that outlives the window it was started in, as it did not before SIGHUP had
// another meaning; one started with nohup that does not; one in a window that is there and takes a SIGHUP for
// the window's end.
func TestTerminalCloses(t *testing.T) {
	for _, nohup := range []bool{false, true} {
		t.Run(fmt.Sprintf("nohup %v", nohup), func(t *testing.T) {
			p := newPlace(t)
			dir, _ := growing(t)
			window, programs := openTerminal(t)
			cmd := p.command("mount", dir, p.mnt)
			if nohup {
				cmd = exec.Command("nohup", cmd.Args...)
				cmd.Env, cmd.Dir = p.command().Env, p.home
			}
			cmd.Stdin, cmd.Stdout, cmd.Stderr = programs, nil, nil
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			exited := make(chan error, 1)
			go func() { exited <- cmd.Wait() }()
			t.Cleanup(func() { _ = cmd.Process.Kill() })
			soon(t, "mount", func() bool { _, ok := fusefs.Mounted(p.mnt); return ok })
			p.hangUp(cmd.Process.Pid)
			p.refreshed(func(c synth.CatalogueStatus) bool { return c.Refreshed == 1 })
			if err := programs.Close(); err != nil {
				t.Fatal(err)
			}
			if err := window.Close(); err != nil {
				t.Fatal(err)
			}
			if nohup {
				p.refreshed(func(c synth.CatalogueStatus) bool { return c.Refreshed == 2 })
				p.must("unmount", p.mnt)
			}
			select {
			case err := <-exited:
				if err != nil {
					t.Errorf("it ended with %v", err)
				}
			case <-time.After(10 * time.Second):
				t.Error("it has not ended")
			}
			if _, still := fusefs.Mounted(p.mnt); still {
				t.Error("it is still mounted")
			}
		})
	}
}
