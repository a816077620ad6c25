package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tesserafs/tesserafs/demo"
)

// Catches a mount point that is taken although it hides something, cannot work, or ends in a loop;
// each is one line that says what to do.
func TestMountPointRefused(t *testing.T) {
	p := newPlace(t)
	file := filepath.Join(p.home, "file")
	full := filepath.Join(p.home, "full of things")
	pipe := filepath.Join(p.home, "pipe")
	inside := filepath.Join(p.home, "archive", "stores")
	link := filepath.Join(p.home, "link")
	cfg := archive4
	cfg.Dir = filepath.Dir(inside)
	cfg.Cells, cfg.Years = cfg.Cells[:1], []int{2024}
	if _, err := demo.Write(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		os.WriteFile(file, nil, 0o644), os.MkdirAll(filepath.Join(full, "thing"), 0o755), os.MkdirAll(inside, 0o755),
		syscall.Mkfifo(pipe, 0o644), os.Symlink(inside, link),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	missing := filepath.Join(p.home, "my stores")
	for _, tt := range []struct {
		source, dir string
		words       []string
	}{
		{archive4.Dir, missing, []string{missing + " does not exist", "mkdir -p '" + missing + "'"}},
		{archive4.Dir, file, []string{"not a directory"}},
		{archive4.Dir, pipe, []string{"not a directory"}},
		{archive4.Dir, full, []string{"not empty"}},
		{cfg.Dir, cfg.Dir, []string{"not empty"}},
		{cfg.Dir, inside, []string{"lies inside the archive"}},
		{filepath.Join(cfg.Dir, "npy", "v1"), inside, []string{"lies inside the archive"}},
		{cfg.Dir, link, []string{"lies inside the archive"}},
	} {
		p.refuses(exitFailed, tt.words, "mount", tt.source, tt.dir)
		p.refuses(exitFailed, tt.words, "mount", "--daemon", tt.source, tt.dir)
	}
	p.refuses(exitFailed, []string{"cannot open the log", "--log-file"}, "mount", "--log-file", filepath.Join(file, "log"), archive4.Dir, p.mnt)
	p.refuses(exitFailed, []string{"not a tesserafs mount"}, "unmount", p.mnt)
	p.refuses(exitFailed, []string{"not a tesserafs mount"}, "unmount", missing)
	p.refuses(exitFailed, []string{"not a tesserafs mount"}, "status", p.mnt)
	p.refuses(exitFailed, []string{"not a tesserafs mount"}, "status", file)
}

// foreground is a mount in the foreground.
type foreground struct {
	cmd    *exec.Cmd
	stdout *bufio.Reader
	stderr *bytes.Buffer
	exited chan struct{} // closed when the process has ended
}

// start mounts in the foreground and reads what it says until it serves.
func (p *place) start(args ...string) (*foreground, string) {
	p.t.Helper()
	f := &foreground{cmd: p.command(append([]string{"mount"}, args...)...), stderr: &bytes.Buffer{}, exited: make(chan struct{})}
	out, err := f.cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	f.stdout = bufio.NewReader(out)
	f.cmd.Stderr = f.stderr
	if err := f.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	var said strings.Builder
	for !strings.Contains(said.String(), "unmount:") {
		line, err := f.stdout.ReadString('\n')
		said.WriteString(line)
		if err != nil {
			f.cmd.Wait()
			p.t.Fatalf("mount ended: %s%s", &said, f.stderr)
		}
	}
	p.t.Cleanup(func() {
		_ = f.cmd.Process.Kill()
		<-f.exited
	})
	return f, said.String()
}

// wait returns the exit code and what else was said.
func (f *foreground) wait(t *testing.T, within time.Duration) result {
	t.Helper()
	var rest []byte
	go func() {
		defer close(f.exited)
		rest, _ = io.ReadAll(f.stdout)
		_ = f.cmd.Wait()
	}()
	select {
	case <-f.exited:
	case <-time.After(within):
		_ = f.cmd.Process.Kill()
		<-f.exited
		t.Fatalf("the process has not ended after %s", within)
	}
	return result{f.cmd.ProcessState.ExitCode(), string(rest), f.stderr.String()}
}

// Catches a mount that outlives the signal to end, whoever uses it: idle, a shell sitting in it, a
// file being read, and a user who signals again and again.
func TestSignalsUnmount(t *testing.T) {
	chunkOf := func(p *place) string { return filepath.Join(p.store(), "embeddings", "c", "0", "0", "0") }
	for name, use := range map[string]func(t *testing.T, p *place){
		"idle": func(*testing.T, *place) {},
		"sat in": func(t *testing.T, p *place) {
			d, err := os.Open(p.store())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { d.Close() })
		},
		"read": func(t *testing.T, p *place) {
			f, err := os.Open(chunkOf(p))
			if err != nil {
				t.Fatal(err)
			}
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				buf := make([]byte, 1<<20)
				for {
					if _, err := f.ReadAt(buf, 0); err != nil && err != io.EOF {
						return // cut off
					}
				}
			}()
			t.Cleanup(func() {
				<-ended
				f.Close()
			})
		},
	} {
		for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
			t.Run(fmt.Sprintf("%s %v", name, sig), func(t *testing.T) {
				p := newPlace(t)
				f, _ := p.start(archive4.Dir, p.mnt)
				use(t, p)
				if err := f.cmd.Process.Signal(sig); err != nil {
					t.Fatal(err)
				}
				r := f.wait(t, 10*time.Second)
				if r.code != exitDone || r.stderr != "" || r.stdout != "unmounted "+p.mnt+"\n" {
					t.Errorf("exit code %d, %q, %q", r.code, r.stdout, r.stderr)
				}
				if p.isMounted() {
					t.Error("it is still mounted")
				}
			})
		}
	}
	t.Run("twice", func(t *testing.T) {
		p := newPlace(t)
		f, _ := p.start(archive4.Dir, p.mnt)
		d, err := os.Open(p.store())
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		for range 2 {
			_ = f.cmd.Process.Signal(syscall.SIGINT)
			time.Sleep(50 * time.Millisecond)
		}
		f.wait(t, time.Second)
		if p.isMounted() {
			t.Error("it is still mounted")
		}
	})
}

// Catches a summary that names a store that is not there or figures that are not the archive's, and
// a process that does not end when others unmount.
func TestForeground(t *testing.T) {
	p := newPlace(t)
	f, said := p.start(archive4.Dir, p.mnt, "--log-format", "json")
	for _, want := range []string{
		archive4.Dir + " is shown at " + p.mnt, "2023–2024", `xr.open_zarr("` + p.store() + `")`,
		"Ctrl-C, or tesserafs unmount " + p.mnt, filepath.Join(p.mnt, "<dataset>", "zones", "<year>", "utm<ZZ>_<year>.zarr"),
	} {
		if !strings.Contains(said, want) {
			t.Errorf("the summary does not say %q:\n%s", want, said)
		}
	}
	if _, err := os.Stat(filepath.Join(p.store(), "zarr.json")); err != nil {
		t.Error(err)
	}
	p.refuses(exitFailed, []string{"already shows " + archive4.Dir, "tesserafs unmount " + p.mnt}, "mount", archive4.Dir, p.mnt)
	p.refuses(exitFailed, []string{"not empty"}, "mount", archive4.Dir, filepath.Join(p.mnt, "v1"))
	if out := p.must("unmount", p.mnt); out != "" {
		t.Errorf("unmount says %q", out)
	}
	if r := f.wait(t, 5*time.Second); r.code != exitDone || r.stderr != "" {
		t.Errorf("exit code %d, %q", r.code, r.stderr)
	}
}

// Catches a mount that dies of a reader of its output that has gone: the next line it logs, or a
// full pipe, would end it.
func TestOutputClosed(t *testing.T) {
	p := newPlace(t)
	cfg := archive4
	cfg.Dir = filepath.Join(p.home, "archive")
	if _, err := demo.Write(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(cfg.Files(cfg.Cells[0], 2024).Scales); err != nil {
		t.Fatal(err)
	}
	cmd := p.command("mount", cfg.Dir, p.mnt)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	w.Close()
	r.Close()
	eventually(t, "mounted", 10*time.Second, p.isMounted)
	for range 2 { // the first logs a line
		if _, err := os.ReadFile(filepath.Join(p.store(), "scales", "c", "0", "0")); err == nil {
			t.Error("a missing tile is read")
		}
	}
	p.must("status", p.mnt)
	p.must("unmount", p.mnt)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}
