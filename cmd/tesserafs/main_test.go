package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tesserafs/tesserafs/demo"
	"github.com/tesserafs/tesserafs/vfs/fusefs"
)

// What all tests use: the command as users run it, and a small archive. Both are read only.
var (
	binary   string
	archive4 demo.Config // 4 tiles of about 20 × 1116 pixels: 2 cells, 2 years
)

func TestMain(m *testing.M) { os.Exit(prepareAndRun(m)) }

func prepareAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "tesserafs-cmd-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	// Other users run it too.
	if err := os.Chmod(dir, 0o755); err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "tesserafs")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		panic(fmt.Sprintf("building the command: %v\n%s", err, out))
	}
	cells, err := demo.Box(-33.1, 88.9, -32.9, 89)
	if err != nil {
		panic(err)
	}
	archive4 = demo.Config{Dir: filepath.Join(dir, "archive"), Cells: cells, Years: []int{2023, 2024}, Manifest: true}
	if _, err := demo.Write(context.Background(), archive4); err != nil {
		panic(err)
	}
	return m.Run()
}

// place is where a test runs the command: a home and an empty directory to mount on, which is
// unmounted at the end whatever happens.
type place struct {
	t        *testing.T
	home     string
	mnt      string
	asNobody bool
}

func newPlace(t *testing.T) *place {
	t.Helper()
	dir := t.TempDir()
	p := &place{t: t, home: filepath.Join(dir, "home"), mnt: filepath.Join(dir, "mnt")}
	for _, d := range []string{p.home, p.mnt} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if _, still := fusefs.Mounted(p.mnt); still {
			t.Errorf("%s is still mounted", p.mnt)
			_ = fusefs.Detach(p.mnt)
		}
	})
	return p
}

func (p *place) command(args ...string) *exec.Cmd {
	cmd := exec.Command(binary, args...)
	cmd.Env = append(os.Environ(), "HOME="+p.home, "XDG_STATE_HOME=")
	cmd.Dir = p.home
	if p.asNobody {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	return cmd
}

// result is how a command ended.
type result struct {
	code           int
	stdout, stderr string
}

func (p *place) run(args ...string) result {
	p.t.Helper()
	cmd := p.command(args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	// What mounts although it should not is asked to end.
	late := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })
	defer late.Stop()
	// A process left behind that holds the output must not hold the test.
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		p.t.Fatalf("tesserafs %s: %v\n%s%s", strings.Join(args, " "), err, &stdout, &stderr)
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// must runs what is expected to succeed, in silence on standard error.
func (p *place) must(args ...string) string {
	p.t.Helper()
	r := p.run(args...)
	if r.code != exitDone || r.stderr != "" {
		p.t.Fatalf("tesserafs %s: exit code %d\n%s%s", strings.Join(args, " "), r.code, r.stdout, r.stderr)
	}
	return r.stdout
}

// refuses runs what is expected to fail with a code and one line that holds all of the words.
func (p *place) refuses(code int, words []string, args ...string) {
	p.t.Helper()
	r := p.run(args...)
	if r.code != code {
		p.t.Errorf("tesserafs %s: exit code %d, want %d", strings.Join(args, " "), r.code, code)
	}
	if r.stdout != "" || strings.Count(r.stderr, "\n") != 1 || !strings.HasPrefix(r.stderr, "tesserafs: ") {
		p.t.Errorf("tesserafs %s: want one line on standard error, got %q and %q", strings.Join(args, " "), r.stdout, r.stderr)
	}
	for _, w := range words {
		if !strings.Contains(r.stderr, w) {
			p.t.Errorf("tesserafs %s: %q does not say %q", strings.Join(args, " "), r.stderr, w)
		}
	}
}

// eventually waits for something to become true.
func eventually(t *testing.T, what string, within time.Duration, is func() bool) {
	t.Helper()
	for end := time.Now().Add(within); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after %s: not %s", within, what)
		}
	}
}

func (p *place) isMounted() bool {
	_, is := fusefs.Mounted(p.mnt)
	return is
}

// store is a store of the archive under a mount.
func (p *place) store() string {
	return filepath.Join(p.mnt, "v1", "zones", "2024", fmt.Sprintf("utm%02d_2024.zarr", archive4.Cells[0].Zone()))
}
