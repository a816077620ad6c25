package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/tesserafs/tesserafs/vfs/fusefs"
)

const (
	// statusTime is how long a mount that is to be unmounted may take to say whose it is.
	statusTime = 2 * time.Second
	// quietTime is how long a process whose mount nobody uses takes to end by itself.
	quietTime = 500 * time.Millisecond
	// endTime is how long its process may take to end altogether.
	endTime = 10 * time.Second
)

func unmountCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "unmount DIR",
		Short: "Unmount what tesserafs mounted",
		Long: `Unmount the archive shown at DIR, also while it is read or a shell sits in it, and wait until
the process behind it has ended. A dead mount, whose process was killed, is cleared.

` + exitHelp,
		Args: arguments("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return unmount(cmd.Context(), args[0])
		},
	}
}

func unmount(ctx context.Context, dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if _, ok := fusefs.Mounted(dir); !ok {
		return fmt.Errorf("%s is not a tesserafs mount: name the directory that 'tesserafs mount' was given", dir)
	}
	d := findDaemon(dir)
	defer d.close()
	// The process ends when its mount does. Where somebody still uses the mount that may be never,
	// so then it is asked to end, which cuts them off.
	if err := fusefs.Detach(dir); err != nil {
		return err
	}
	if d == nil || d.ended(ctx, quietTime) {
		return nil
	}
	if err := d.terminate(); err != nil {
		return fmt.Errorf("%s is unmounted, but still in use, and its process %d cannot be ended: %w", dir, d.pid, err)
	}
	if !d.ended(ctx, endTime-quietTime) {
		return fmt.Errorf("%s is unmounted, but its process %d has not ended: end it with 'kill -9 %d'", dir, d.pid, d.pid)
	}
	return nil
}

// daemon is the process behind a mount, held so that no other can take its number.
type daemon struct {
	pid int
	fd  int // pidfd
}

// findDaemon asks the mount whose it is. It returns nil where that is not to be found out: the mount
// is dead or hangs, or its process is out of sight (another PID namespace).
func findDaemon(dir string) *daemon {
	found := make(chan *daemon, 1)
	go func() {
		raw, err := readStatus(dir)
		if err != nil {
			found <- nil
			return
		}
		s, err := parseStatus(raw)
		if err != nil || s.Mount.PID <= 1 || s.Mount.PID == os.Getpid() {
			found <- nil
			return
		}
		found <- openDaemon(s.Mount.PID)
	}()
	select {
	case d := <-found:
		return d
	case <-time.After(statusTime):
		return nil // the goroutine ends with this process
	}
}

// openDaemon holds the process of that number, if it is one of this program.
func openDaemon(pid int) *daemon {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil
	}
	mine, err1 := os.ReadFile("/proc/self/comm")
	its, err2 := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err1 != nil || err2 != nil || !bytes.Equal(mine, its) {
		unix.Close(fd)
		return nil
	}
	return &daemon{pid, fd}
}

func (d *daemon) close() {
	if d != nil {
		unix.Close(d.fd)
	}
}

// ended waits for the end of the process, or of ctx.
func (d *daemon) ended(ctx context.Context, most time.Duration) bool {
	for until := time.Now().Add(most); ; {
		// A pidfd can be read when the process has ended.
		fds := []unix.PollFd{{Fd: int32(d.fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 50)
		if n > 0 || err != nil && !errors.Is(err, unix.EINTR) {
			return n > 0
		}
		if ctx.Err() != nil || time.Now().After(until) {
			return false
		}
	}
}

func (d *daemon) terminate() error { return unix.PidfdSendSignal(d.fd, unix.SIGTERM, nil, 0) }
