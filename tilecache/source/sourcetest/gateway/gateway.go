// Package gateway runs real servers for tests: versitygw, which is S3 over directories, and nginx.
// They listen on loopback, on ports that were free, and end with the test that started them. A test
// fails where the program is not installed, and says how to install it.
package gateway

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long a server may take to answer.
const patience = 20 * time.Second

// Process is a server that runs. Stop and Start are for tests of what a server that dies does to its
// clients.
type Process struct {
	URL string // "http://127.0.0.1:port"

	t       testing.TB
	dir     string // of its files
	command func(addr string) *exec.Cmd
	addr    string

	mu     sync.Mutex // guards the fields below
	cmd    *exec.Cmd
	output bytes.Buffer // written by cmd while it runs
	exited chan struct{}
}

// start starts a server on a free port, and registers its end.
func start(t testing.TB, dir string, command func(addr string) *exec.Cmd) *Process {
	t.Helper()
	p := &Process{t: t, dir: dir, command: command}
	t.Cleanup(p.Stop)
	// Another process may take the port between the look and the server's start.
	for range 5 {
		p.addr = freeAddr(t)
		p.URL = "http://" + p.addr
		if p.run() {
			return p
		}
	}
	t.Fatalf("%s does not start:\n%s", p.cmd.Path, p.output.Bytes())
	return nil
}

// freeAddr is a port of loopback that nothing listened on a moment ago.
func freeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// Start starts the server again, at the same address, and returns once it answers.
func (p *Process) Start() {
	p.t.Helper()
	for deadline := time.Now().Add(patience); !p.run(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatalf("%s does not start again at %s:\n%s", p.cmd.Path, p.addr, p.output.Bytes())
		}
	}
}

// run starts the process. It is false where it ended before it answered.
func (p *Process) run() bool {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.output.Reset()
	cmd := p.command(p.addr)
	cmd.Dir = p.dir
	cmd.Stdout, cmd.Stderr = &p.output, &p.output
	// The mark by which scripts/leftovers.sh knows processes of a test run goes along.
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + p.dir, "TESSERAFS_RUN=" + os.Getenv("TESSERAFS_RUN")}
	// Where the test is killed, nothing else would end it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() {
		cmd.Wait()
		close(exited)
	}()
	p.cmd, p.exited = cmd, exited
	return p.answers()
}

// answers waits for the first answer. The caller holds p.mu.
func (p *Process) answers() bool {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for {
		select {
		case <-p.exited:
			return false
		case <-ctx.Done():
			p.cmd.Process.Kill()
			<-p.exited
			p.t.Fatalf("%s runs and does not answer at %s in %v:\n%s", p.cmd.Path, p.addr, patience, p.output.Bytes())
		case <-time.After(10 * time.Millisecond):
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL, nil)
		if err != nil {
			p.t.Fatal(err)
		}
		if resp, err := client.Do(req); err == nil {
			resp.Body.Close()
			return true
		}
	}
}

// Stop kills the server, as a crash does, and returns once it has ended.
func (p *Process) Stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return
	}
	p.cmd.Process.Kill()
	<-p.exited
}

// program finds an executable: in .cache/bin of the checkout, on the PATH, or where the environment
// variable says.
func program(t testing.TB, name, variable, install string) string {
	t.Helper()
	var places []string
	if wd, err := os.Getwd(); err == nil {
		for dir := wd; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
			if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
				places = append(places, filepath.Join(dir, ".cache", "bin", name))
				break
			}
		}
	}
	places = append(places, name, filepath.Join("/usr/sbin", name))
	if variable != "" && os.Getenv(variable) != "" {
		places = append(places, os.Getenv(variable))
	}
	for _, place := range places {
		if path, err := exec.LookPath(place); err == nil {
			return path
		}
	}
	t.Fatalf("the tests need %s, which is not installed: run 'make setup', or %s", name, install)
	return ""
}
