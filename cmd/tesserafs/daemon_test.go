package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tesserafs/tesserafs/demo"
	"github.com/tesserafs/tesserafs/synth"
	"github.com/tesserafs/tesserafs/vfs/fusefs"
)

// daemonise mounts in the background and returns the process.
func (p *place) daemonise(args ...string) (pid int, said string) {
	p.t.Helper()
	said = p.must(append([]string{"mount", "--daemon", archive4.Dir, p.mnt}, args...)...)
	pid = p.status().Mount.PID
	if pid <= 1 {
		p.t.Fatalf("the status names process %d", pid)
	}
	p.t.Cleanup(func() {
		if !gone(pid) {
			p.t.Errorf("process %d has not ended", pid)
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	return pid, said
}

func (p *place) status() (s synth.Status) {
	p.t.Helper()
	if err := json.Unmarshal([]byte(p.must("status", "--json", p.mnt)), &s); err != nil {
		p.t.Fatal(err)
	}
	return s
}

// gone says whether a process has ended, be it that nobody has taken note.
func gone(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || bytes.Contains(stat, []byte(") Z "))
}

// Catches a daemon that is not ready when its command returns, keeps the terminal, the directory it
// was started in or the pipe, logs elsewhere than it says, or outlives its unmount, also while
// somebody sits in the mount.
func TestDaemon(t *testing.T) {
	for _, used := range []bool{false, true} {
		t.Run(fmt.Sprintf("used %v", used), func(t *testing.T) {
			p := newPlace(t)
			pid, said := p.daemonise()
			log := filepath.Join(p.home, ".local", "state", "tesserafs", logName(p.mnt))
			for _, want := range []string{log, p.store(), "unmount:   tesserafs unmount " + p.mnt} {
				if !strings.Contains(said, want) {
					t.Errorf("the summary does not say %q:\n%s", want, said)
				}
			}
			if cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid)); err != nil || cwd != "/" {
				t.Errorf("it sits in %s (%v)", cwd, err)
			}
			for fd, want := range map[int]string{0: "/dev/null", 1: "/dev/null", 2: log} {
				if to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, fd)); err != nil || to != want {
					t.Errorf("file %d leads to %s, not to %s (%v)", fd, to, want, err)
				}
			}
			if sid, err := getsid(pid); err != nil || sid != pid {
				t.Errorf("it is in session %d, not in its own (%v)", sid, err)
			}
			if used {
				d, err := os.Open(p.store())
				if err != nil {
					t.Fatal(err)
				}
				defer d.Close()
			}
			p.must("unmount", p.mnt)
			if !gone(pid) {
				t.Errorf("unmount returned before process %d had ended", pid)
			}
			data, err := os.ReadFile(log)
			if err != nil || !bytes.Contains(data, []byte("msg=mounted")) || !bytes.Contains(data, []byte("msg=unmounted")) {
				t.Errorf("the log is %q (%v)", data, err)
			}
		})
	}
}

func getsid(pid int) (int, error) {
	id, _, errno := syscall.Syscall(syscall.SYS_GETSID, uintptr(pid), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(id), nil
}

// Catches figures of status and info that do not come from the mount, and failed tiles that are not
// listed with a reason.
func TestStatusOfMount(t *testing.T) {
	p := newPlace(t)
	cfg := archive4
	cfg.Dir = filepath.Join(p.home, "archive")
	if _, err := demo.Write(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	broken := cfg.Files(cfg.Cells[0], 2024).Scales
	if err := os.Truncate(broken, 1000); err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(p.home, "log")
	p.must("mount", "--daemon", "--log-file", log, "--log-format", "json", "--missing-tiles=error", cfg.Dir, p.mnt)
	defer func() { p.must("unmount", p.mnt) }()
	if _, err := os.ReadFile(filepath.Join(p.store(), "scales", "c", "0", "0")); err == nil {
		t.Error("a truncated tile is read")
	}
	out := p.must("status", p.mnt)
	for _, want := range []string{cfg.Dir + " is shown at " + p.mnt, "failed:    1", "grid_-33.05_88.95_scales.npy", "1×"} {
		if !strings.Contains(out, want) {
			t.Errorf("the status does not say %q:\n%s", want, out)
		}
	}
	s := p.status()
	if len(s.FailedTiles) != 1 || s.Mount.Options["missing_tiles"] != "error" || s.Mount.Dir != p.mnt || s.Mount.Version == "" {
		t.Errorf("status --json: %+v", s)
	}
	if out := p.must("info", p.mnt); !strings.Contains(out, cfg.Dir+" is shown at "+p.mnt) || !strings.Contains(out, "2023–2024") {
		t.Errorf("info of a mount:\n%s", out)
	}
	var h holding
	if err := json.Unmarshal([]byte(p.must("info", "--json", p.mnt)), &h); err != nil || h.Mount != p.mnt || len(h.Datasets) != 1 {
		t.Errorf("info --json of a mount: %+v (%v)", h, err)
	}
	data, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	failures := 0
	for line := range bytes.Lines(data) {
		var entry map[string]any
		if err := json.Unmarshal(line, &entry); err != nil {
			t.Errorf("%q in the log is not JSON: %v", line, err)
		}
		if bytes.Contains(line, []byte("grid_-33.05_88.95_scales.npy")) {
			failures++
		}
	}
	if failures != 1 {
		t.Errorf("the log names the truncated tile %d times, not once:\n%s", failures, data)
	}
}

// Catches a dead mount that needs another program to be got rid of.
func TestDeadMount(t *testing.T) {
	p := newPlace(t)
	die := func() {
		t.Helper()
		pid, _ := p.daemonise()
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, "a dead mount", 5*time.Second, func() bool {
			dead, err := fusefs.Stale(p.mnt)
			return err == nil && dead
		})
	}
	die()
	hint := []string{"dead mount", "tesserafs unmount " + p.mnt}
	p.refuses(exitFailed, hint, "status", p.mnt)
	p.refuses(exitFailed, hint, "info", p.mnt)
	if out := p.must("doctor"); !strings.Contains(out, "warn  dead mounts") || !strings.Contains(out, "tesserafs unmount "+p.mnt) {
		t.Errorf("doctor does not see the dead mount:\n%s", out)
	}
	// A new mount takes its place and says so.
	r := p.run("mount", "--daemon", archive4.Dir, p.mnt)
	if r.code != exitDone || !strings.Contains(r.stderr, "cleared a dead mount") || strings.Count(r.stderr, "\n") != 1 {
		t.Fatalf("exit code %d, %q, %q", r.code, r.stdout, r.stderr)
	}
	if _, err := os.Stat(filepath.Join(p.store(), "zarr.json")); err != nil {
		t.Error(err)
	}
	p.must("unmount", p.mnt)
	die()
	p.must("unmount", p.mnt)
	if p.isMounted() {
		t.Error("the dead mount is still there")
	}
}

// Catches a daemon that goes on although the command that started it was told to stop.
func TestDaemonInterrupted(t *testing.T) {
	p := newPlace(t)
	for after := time.Duration(0); after < 60*time.Millisecond; after += 4 * time.Millisecond {
		cmd := p.command("mount", "--daemon", archive4.Dir, p.mnt)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(after)
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err == nil {
			p.must("unmount", p.mnt) // it was done before the signal
		}
		eventually(t, "without processes", 5*time.Second, func() bool { return len(processesNaming(t, p.mnt)) == 0 })
		if p.isMounted() {
			t.Fatal("it is mounted")
		}
	}
}

// processesNaming lists processes that have an argument.
func processesNaming(t *testing.T, arg string) (pids []string) {
	t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range lines {
		line, err := os.ReadFile(path)
		if err == nil && bytes.Contains(line, []byte("\x00"+arg+"\x00")) {
			pids = append(pids, filepath.Base(filepath.Dir(path)))
		}
	}
	return pids
}
