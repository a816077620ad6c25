package fusefs

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tesserafs/tesserafs/vfs/memfs"
)

// Clients are what must not happen in the process that serves: page faults on mapped files, which
// would stop its scheduler, and processes that die.
var clients = map[string]func(args []string) error{
	"mmap":         clientMmap,
	"signals":      clientSignals,
	"sit":          clientSit,
	"serve":        clientServe,
	"unprivileged": clientUnprivileged,
}

// runClient returns the exit code of a client process.
func runClient(name string, args []string) int {
	client, ok := clients[name]
	if !ok {
		fmt.Fprintf(os.Stderr, "no client %q\n", name)
		return 2
	}
	if err := client(args); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// process is a client that runs.
type process struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// start runs a client until the test ends.
func start(t testing.TB, name string, args ...string) *process {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), "FUSEFS_CLIENT="+name)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return &process{cmd, in, bufio.NewReader(out)}
}

// says waits for a line of the client.
func (p *process) says(t testing.TB) string {
	t.Helper()
	line, err := p.out.ReadString('\n')
	if err != nil {
		t.Fatalf("client: %v", err)
	}
	return line[:len(line)-1]
}

// tell lets the client go on.
func (p *process) tell(t testing.TB) {
	t.Helper()
	if _, err := io.WriteString(p.in, "\n"); err != nil {
		t.Fatal(err)
	}
}

func sum(p []byte) string { return fmt.Sprintf("%x", sha256.Sum256(p)) }

// clientMmap maps a file, closes it, and prints the sum of its bytes each time it is told to.
func clientMmap(args []string) error {
	flags := unix.MAP_SHARED
	if args[1] == "private" {
		flags = unix.MAP_PRIVATE
	}
	fd, err := unix.Open(args[0], unix.O_RDONLY, 0)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("fstat: %w", err)
	}
	data, err := unix.Mmap(fd, 0, int(st.Size), unix.PROT_READ, flags)
	if err != nil {
		return fmt.Errorf("mmap: %w", err)
	}
	if err := unix.Close(fd); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	for in := bufio.NewReader(os.Stdin); ; {
		fmt.Println(sum(data))
		if _, err := in.ReadString('\n'); err != nil {
			return nil
		}
	}
}

// clientSignals reads a file while signals rain on the thread that reads, as Go's own scheduler
// sends them, and prints the sum of its bytes.
func clientSignals(args []string) error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	runtime.LockOSThread()
	thread := unix.Gettid()
	stop := make(chan struct{})
	go func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(200 * time.Microsecond):
				_ = unix.Tgkill(os.Getpid(), thread, unix.SIGUSR1)
			case <-signals:
			}
		}
	}()
	data, err := os.ReadFile(args[0])
	close(stop)
	fmt.Println(sum(data))
	return err
}

// clientServe shows a tree until it is killed.
func clientServe(args []string) error {
	s, err := Mount(args[0], memfs.New(map[string]memfs.File{"file": {Data: []byte("data")}}), Config{FsName: args[1]})
	if err != nil {
		return err
	}
	fmt.Println("mounted")
	return s.Wait()
}
