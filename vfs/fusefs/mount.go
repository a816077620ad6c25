package fusefs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"log/slog"
	"os"
	"os/exec"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/tesserafs/tesserafs/vfs"
)

const (
	// fsType is what mount and df show as "fuse.tesserafs".
	fsType = "tesserafs"

	// maxRead is the longest read the kernel asks for at once.
	maxRead = 1 << 20

	// readAhead has the kernel ask for as much at once as it may. With four times that, eight readers of
	// files that the page cache does not have yet took three times as long.
	readAhead = 1 << 20
)

// Config says how a tree is shown.
type Config struct {
	// AllowOther lets other users in; unprivileged mounts need user_allow_other in
	// /etc/fuse.conf for it.
	AllowOther bool

	// FsName is the source that df and mount show.
	FsName string

	// HotBytes bounds the memory for copies of files that are read again and again (package doc,
	// "Hot copies"). 0 makes none.
	HotBytes int64

	// Log gets panics and faults of the door's own; nil: nobody does.
	Log *slog.Logger

	// Size tells df how many bytes are shown; nil: none.
	Size func() int64
}

// Stats counts what a mount did.
type Stats struct {
	Reads     int64 `json:"reads"`      // answered by this process, failed ones included
	Bytes     int64 `json:"bytes"`      // of these
	Failed    int64 `json:"failed"`     // of these reads, interrupted ones not included
	OpenFiles int64 `json:"open_files"` // now
	HotFiles  int64 `json:"hot_files"`  // copies now
	HotBytes  int64 `json:"hot_bytes"`  // their size
	HotOpens  int64 `json:"hot_opens"`  // opens that were served from a copy
}

// Server shows a tree in a directory.
type Server struct {
	dir   string // absolute, without symbolic links
	dev   uint64 // device number of the mount: the name of its connection
	cfg   Config
	log   *slog.Logger
	uid   uint32
	gid   uint32
	fuse  *fuse.Server
	raw   *rawDoor
	root  *dirNode
	hot   *hot // nil: off
	ahead *aheadReads

	// ino gives the inode number of a name. Tests replace it to make numbers collide.
	ino func(parent uint64, name string) uint64

	reads, bytes, failed, open, hotOpens atomic.Int64

	shown  atomic.Pointer[generation]
	absent atomic.Int64 // names in all dirNode.absent

	ending  atomic.Bool        // an unmount began
	done    chan struct{}      // closed when serving and the filler of hot copies have ended
	running context.Context    // of a Replace under way; an unmount ends it
	end     context.CancelFunc // of running

	mu        sync.Mutex // held while unmounting
	replacing sync.Mutex // held by Replace
}

// Mount shows root in dir, an empty directory, and serves it until it is unmounted by anyone. The
// error of a mount that cannot be says in one line what to do about it.
func Mount(dir string, root vfs.Dir, cfg Config) (*Server, error) {
	return mount(dir, root, cfg, inodeNumber)
}

func mount(dir string, root vfs.Dir, cfg Config, ino func(uint64, string) uint64) (*Server, error) {
	dir, err := resolve(dir)
	if err != nil {
		return nil, err
	}
	if err := checkMountPoint(dir); err != nil {
		return nil, err
	}
	direct := os.Geteuid() == 0
	if err := checkFUSE(dir, direct, cfg.AllowOther); err != nil {
		return nil, err
	}
	s := &Server{
		dir: dir, cfg: cfg, log: cfg.Log, ino: ino,
		uid: uint32(os.Getuid()), gid: uint32(os.Getgid()),
		done: make(chan struct{}),
	}
	s.running, s.end = context.WithCancel(context.Background())
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	opts := s.options(direct)
	first := newGeneration(0, root)
	first.settled.Store(true)
	s.shown.Store(first)
	s.root = newDirNode(s, nil, "", &dirAt{first, root})
	s.raw = &rawDoor{RawFileSystem: gofs.NewNodeFS(s.root, opts), s: s}
	s.fuse, err = fuse.NewServer(s.raw, dir, &opts.MountOptions)
	if err != nil {
		if _, ok := Mounted(dir); ok { // mounted, but the kernel's first request failed
			_ = Detach(dir)
		}
		hint := "the line above is fusermount3's reason"
		if direct {
			hint = "in a container, allow it /dev/fuse and CAP_SYS_ADMIN"
		}
		return nil, fmt.Errorf("cannot mount on %s: %s; %s", dir, strings.TrimSpace(err.Error()), hint)
	}
	m, ok := mountAt(dir)
	if !ok {
		_ = unmountDir(dir, true)
		return nil, fmt.Errorf("the mount on %s is not listed in /proc/self/mountinfo; mount /proc", dir)
	}
	s.dev = m.dev
	s.ahead = newAheadReads(s)
	if cfg.HotBytes > 0 {
		s.hot = newHot(s.fuse, cfg.HotBytes, s.reads.Load, s.log)
	}
	if direct {
		s.widenReadAhead()
	}
	go s.serve()
	// This waits for the first answer. It also makes the kernel forget poll(2) for this mount,
	// without which a Go client in this process could block its own scheduler.
	if err := s.fuse.WaitMount(); err != nil {
		_ = s.Unmount()
		return nil, fmt.Errorf("the mount on %s does not answer: %w", dir, err)
	}
	return s, nil
}

// widenReadAhead lets the kernel read ahead in requests of the full length when a file is read
// through the page cache. FUSE has no word for more than 128 KiB; only root can ask for it, here.
// Where /sys is read-only, as in containers, such reads are slower and nothing else.
func (s *Server) widenReadAhead() {
	path := fmt.Sprintf("/sys/class/bdi/%d:%d/read_ahead_kb", unix.Major(s.dev), unix.Minor(s.dev))
	if err := os.WriteFile(path, []byte(strconv.Itoa(readAhead>>10)), 0); err != nil {
		s.log.Debug("read-ahead stays at the kernel's own", "reason", err)
	}
}

// options are explained in the package doc.
func (s *Server) options(direct bool) *gofs.Options {
	negative := timeout
	o := &gofs.Options{
		MountOptions: fuse.MountOptions{
			AllowOther:           s.cfg.AllowOther,
			FsName:               s.cfg.FsName,
			Name:                 fsType,
			Options:              []string{"ro", "default_permissions"},
			MaxWrite:             maxRead,
			DisableSplice:        true,
			IgnoreSecurityLabels: true,
			DirectMount:          direct,
			DirectMountFlags:     unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV,
			ExtraCapabilities:    fuse.CAP_READDIRPLUS_AUTO | fuse.CAP_DIRECT_IO_ALLOW_MMAP,
			Logger:               log.New(libraryLog{s}, "", 0),
			PanicHandler: func(v any) fuse.Status {
				s.logPanic(v)
				return fuse.EIO
			},
		},
		// Entry and attribute timeouts are given with each answer, as go-fuse takes an answer's
		// zero, which volatile files need, for none given.
		NegativeTimeout: &negative,
		RootStableAttr:  &gofs.StableAttr{Ino: rootIno},
	}
	if o.FsName == "" {
		o.FsName = fsType
	}
	return o
}

// logPanic is called while v is recovered from, so the stack is the panic's.
func (s *Server) logPanic(v any) {
	s.log.Error("panic while serving a request; it failed with EIO", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
}

// libraryLog takes the lines that go-fuse writes: replies the kernel refused, among them those whose
// pages could not be read. While an unmount is under way they mean nothing.
type libraryLog struct{ s *Server }

func (l libraryLog) Write(p []byte) (int, error) {
	level := slog.LevelWarn
	if l.s.ending.Load() {
		level = slog.LevelDebug
	}
	l.s.log.Log(context.Background(), level, "go-fuse: "+strings.TrimSpace(string(p)))
	return len(p), nil
}

// serve owns the loops of go-fuse and the filler of hot copies.
func (s *Server) serve() {
	s.fuse.Serve()
	s.ending.Store(true)
	s.end()
	s.ahead.close()
	if s.hot != nil {
		s.hot.close()
	}
	close(s.done)
}

// Wait returns when the tree is no longer shown, whoever unmounted it. It returns an error when the
// connection was cut while still mounted (an abort by an administrator): the dead mount then lies at
// the directory, for Detach to clear.
func (s *Server) Wait() error {
	<-s.done
	if s.mounted() {
		return fmt.Errorf("the connection of %s was aborted; clear it with: fusermount3 -uz %s", s.dir, s.dir)
	}
	return nil
}

// Stats returns the counters so far.
func (s *Server) Stats() Stats {
	st := Stats{
		Reads: s.reads.Load(), Bytes: s.bytes.Load(), Failed: s.failed.Load(),
		OpenFiles: s.open.Load(), HotOpens: s.hotOpens.Load(),
	}
	if s.hot != nil {
		st.HotFiles, st.HotBytes = s.hot.stats()
	}
	return st
}

// timeout is how long the kernel may keep what it was told of a tree, which never changes; Replace takes
// it back.
const timeout = time.Hour

// checkMountPoint refuses directories that nothing can, or should, be mounted on.
func checkMountPoint(dir string) error {
	if name, ok := Mounted(dir); ok {
		if stale, _ := Stale(dir); stale {
			return fmt.Errorf("a dead mount of %s lies on %s; clear it with: fusermount3 -uz %s", name, dir, dir)
		}
		return fmt.Errorf("%s is already mounted on %s; unmount it first, or choose another directory", name, dir)
	}
	f, err := os.Open(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s does not exist; make it with: mkdir -p %s", dir, dir)
	case errors.Is(err, unix.ENOTCONN):
		return fmt.Errorf("a dead mount lies on %s; clear it with: fusermount3 -uz %s", dir, dir)
	case err != nil:
		return fmt.Errorf("cannot use %s as a mount point: %w", dir, err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.IsDir() {
		return fmt.Errorf("%s is not a directory; choose one that is empty", dir)
	}
	if _, err := f.Readdirnames(1); err != io.EOF {
		return fmt.Errorf("%s is not empty; choose an empty directory, as a mount hides what it covers", dir)
	}
	return nil
}

// checkFUSE says in one line what a mount would fail with in several.
func checkFUSE(dir string, direct, allowOther bool) error {
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return errors.New("/dev/fuse is missing; load the module with: modprobe fuse (in a container: --device /dev/fuse)")
	case errors.Is(err, fs.ErrPermission):
		return errors.New("no permission to open /dev/fuse; as root: chmod 0666 /dev/fuse, or mount as root")
	case err != nil:
		return fmt.Errorf("cannot open /dev/fuse: %w", err)
	}
	_ = f.Close()
	if direct {
		return nil
	}
	if _, err := fusermount(); err != nil {
		return err
	}
	if err := unix.Access(dir, unix.W_OK); err != nil {
		return fmt.Errorf("no permission to write to %s, which mounting on it needs; choose a directory of your own", dir)
	}
	if allowOther && !userAllowOther() {
		return errors.New("--allow-other needs a line user_allow_other in /etc/fuse.conf, or root")
	}
	return nil
}

// fusermount finds the helper that mounts for unprivileged users.
func fusermount() (string, error) {
	for _, name := range []string{"fusermount3", "/bin/fusermount3", "fusermount"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("fusermount3 is missing; install it with: apt install fuse3")
}

// userAllowOther tells whether /etc/fuse.conf lets users allow others in.
func userAllowOther() bool {
	conf, err := os.ReadFile("/etc/fuse.conf")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(conf)) {
		if strings.TrimSpace(line) == "user_allow_other" {
			return true
		}
	}
	return false
}
