package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

var logLevels = map[string]slog.Level{
	"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
}

// mountLog is where a mount logs: to a file where there is one, and warnings to standard error as
// long as somebody may look at it.
type mountLog struct {
	*slog.Logger
	file     *os.File // nil: none
	terminal *terminal
}

// terminal is standard error until it is left.
type terminal struct{ left atomic.Bool }

func (t *terminal) Write(p []byte) (int, error) {
	if t.left.Load() {
		return len(p), nil
	}
	return os.Stderr.Write(p)
}

// openLog opens the log of a mount on dir: the file asked for, or for a daemon one in the state
// directory.
func (f mountFlags) openLog(dir string) (*mountLog, error) {
	l := &mountLog{terminal: &terminal{}}
	handler := func(out io.Writer, level slog.Level) slog.Handler {
		opts := &slog.HandlerOptions{Level: level}
		if f.logFormat == "json" {
			return slog.NewJSONHandler(out, opts)
		}
		return slog.NewTextHandler(out, opts)
	}
	level, asked := logLevels[f.logLevel]
	path := f.logFile
	if path == "" && f.daemon {
		var err error
		if path, err = defaultLog(dir); err != nil {
			return nil, err
		}
	}
	if path == "" {
		if !asked {
			level = slog.LevelWarn
		}
		l.Logger = slog.New(handler(l.terminal, level))
		return l, nil
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if l.file, err = os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600); err != nil {
		return nil, fmt.Errorf("cannot open the log: %w; name another with --log-file", err)
	}
	if !asked {
		level = slog.LevelInfo
	}
	l.Logger = slog.New(slog.NewMultiHandler(handler(l.file, level), handler(l.terminal, max(level, slog.LevelWarn))))
	return l, nil
}

// leaveTerminal takes the process off its terminal and out of the directory it was started in, so
// that both can go. What is written to standard error from here on, a crash included, is in the log.
func (l *mountLog) leaveTerminal() error {
	l.terminal.left.Store(true)
	if err := unix.Dup3(int(l.file.Fd()), int(os.Stderr.Fd()), 0); err != nil {
		return fmt.Errorf("cannot write to the log: %w", err)
	}
	return os.Chdir("/")
}

// defaultLog is the file for the log of a mount on dir in the state directory (XDG base directory
// specification), which is made.
func defaultLog(dir string) (string, error) {
	base := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(base) { // the specification has relative paths ignored
		home, err := os.UserHomeDir()
		if err != nil {
			return "", errors.New("there is no home directory to keep the log in: name a file with --log-file")
		}
		base = filepath.Join(home, ".local", "state")
	}
	state := filepath.Join(base, "tesserafs")
	if err := os.MkdirAll(state, 0o700); err != nil {
		return "", fmt.Errorf("cannot make the directory of logs: %w; name a file with --log-file", err)
	}
	return filepath.Join(state, logName(dir)), nil
}

// logName is mnt-tessera.log for /mnt/tessera. File names have at most 255 bytes.
func logName(dir string) string {
	name := strings.ReplaceAll(strings.Trim(dir, "/"), "/", "-")
	return name[max(0, len(name)-200):] + ".log"
}
