package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// How --daemon works: the command starts itself again in a session of its own, with the same
// arguments and a pipe. The second process does all that a mount in the foreground does, errors,
// warnings and progress on the same terminal included. Once it serves, it leaves the terminal and
// writes the summary to the pipe. The first process then asks the mount for its status, as no
// process may ask a mount of its own, prints the summary and ends. A second process that ends
// without a summary has said why; the first ends with its exit code.

// handoverEnv tells the second process which of its files is the pipe.
const handoverEnv = "TESSERAFS_HANDOVER_FD"

// answerTime is how long a new mount may take to answer.
const answerTime = 10 * time.Second

// startDaemon is the first process.
func startDaemon(ctx context.Context, stdout io.Writer, dir string) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("cannot find this program to start it again: %w", err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	child := exec.Command(self, os.Args[1:]...)
	child.Env = append(os.Environ(), handoverEnv+"=3")
	child.Stderr = os.Stderr
	child.ExtraFiles = []*os.File{w}
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = child.Start()
	w.Close()
	if err != nil {
		return fmt.Errorf("cannot start in the background: %w", err)
	}
	// Ctrl-C does not reach the child's session.
	end := context.AfterFunc(ctx, func() { _ = child.Process.Signal(syscall.SIGTERM) })
	summary, err := io.ReadAll(r)
	if err != nil || len(summary) == 0 {
		return errors.Join(err, failureOf(child.Wait()))
	}
	if !end() {
		_ = child.Wait()
		return errors.New("interrupted")
	}
	if err := answers(dir); err != nil {
		_ = child.Process.Signal(syscall.SIGTERM)
		return err
	}
	if _, err := stdout.Write(summary); err != nil {
		return fmt.Errorf("%s is mounted, but that cannot be said: %w", dir, err)
	}
	return child.Process.Release()
}

// failureOf makes an error of how the second process ended.
func failureOf(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		return &coded{exit.ExitCode(), errSaid}
	}
	return fmt.Errorf("the process in the background ended before it served: %v", err)
}

// answers asks a mount for its status.
func answers(dir string) error {
	done := make(chan error, 1)
	go func() {
		_, err := os.Stat(filepath.Join(dir, statusFile))
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("the mount does not answer: %w", err)
		}
		return nil
	case <-time.After(answerTime):
		return fmt.Errorf("the mount on %s does not answer: unmount it with 'tesserafs unmount %s'", dir, shellWord(dir))
	}
}

// handover is the second process's end of the pipe.
type handover struct{ pipe *os.File }

// openHandover returns nil in a process that nobody started to be a daemon.
func openHandover() (*handover, error) {
	if os.Getenv(handoverEnv) == "" {
		return nil, nil
	}
	if err := os.Unsetenv(handoverEnv); err != nil {
		return nil, err
	}
	const fd = 3 // the first of ExtraFiles
	// A helper such as fusermount3 must not hold it open.
	unix.CloseOnExec(fd)
	return &handover{os.NewFile(fd, "handover")}, nil
}

// say hands the summary over: the mount serves.
func (h *handover) say(summary string) error {
	_, err := io.WriteString(h.pipe, summary)
	return errors.Join(err, h.pipe.Close())
}
