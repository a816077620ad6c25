package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tesserafs/tesserafs/demo"
)

// Catches units mixed up (1000 and 1024), sizes that overflow, and numbers that are none.
func TestByteSize(t *testing.T) {
	for text, want := range map[string]int64{
		"512MiB": 512 << 20, "2GiB": 2 << 30, "1.5 GB": 15e8, "100kB": 1e5, "64kib": 64 << 10, "4096": 4096, "7B": 7, "1 TiB": 1 << 40,
	} {
		var b byteSize
		if err := b.Set(text); err != nil || int64(b) != want {
			t.Errorf("%q is %d (%v), want %d", text, b, err, want)
		}
	}
	for _, text := range []string{"", "MiB", "-1", "1e30", "NaN", "Inf", "12 parsecs", "9999999999999 GiB"} {
		var b byteSize
		if err := b.Set(text); err == nil {
			t.Errorf("%q is %d, want an error", text, b)
		}
	}
	for n, want := range map[byteSize]string{0: "0 B", 1023: "1023 B", 1024: "1 KiB", 1536: "1.5 KiB", 95823248: "91.4 MiB", 3 << 40: "3 TiB"} {
		if got := n.String(); got != want {
			t.Errorf("%d is %q, want %q", int64(n), got, want)
		}
	}
}

// Catches runs drawn together wrongly, thousands apart wrongly, and words a shell would split.
func TestText(t *testing.T) {
	for _, tt := range []struct{ got, want string }{
		{ranges(nil), ""}, {ranges([]int{5}), "5"}, {ranges([]int{1, 2, 3, 7, 9, 10}), "1–3, 7, 9–10"},
		{group(0), "0"}, {group(999), "999"}, {group(1000), "1,000"}, {group(1755251), "1,755,251"}, {group(-1234), "-1,234"}, {group(-123), "-123"},
		{count(1, "tile"), "1 tile"}, {count(0, "tile"), "0 tiles"},
		{shellWord("/mnt/a-b_c.d"), "/mnt/a-b_c.d"}, {shellWord(""), "''"}, {shellWord("it's $x"), `'it'\''s $x'`},
		{logName("/mnt/tessera"), "mnt-tessera.log"}, {logName("/"), ".log"},
		{oneLine("a\nb\r\n"), "a; b"},
	} {
		if tt.got != tt.want {
			t.Errorf("got %q, want %q", tt.got, tt.want)
		}
	}
	if n := len(logName("/" + strings.Repeat("x", 4000))); n > 255 {
		t.Errorf("a log's name of %d bytes", n)
	}
}

// Catches exit codes lost on the way up.
func TestCodeOf(t *testing.T) {
	for want, err := range map[int]error{
		exitFailed: errors.New("x"), exitUsage: usageError("x"), exitData: fmt.Errorf("y: %w", &coded{exitData, errors.New("x")}),
	} {
		if got := codeOf(err); got != want {
			t.Errorf("%v: %d, want %d", err, got, want)
		}
	}
}

// Catches a scan that shows nothing on a terminal, and a bar that is left there.
func TestProgressOnTerminal(t *testing.T) {
	p := newPlace(t)
	cfg := archive4
	cfg.Dir, cfg.Layout, cfg.Manifest = filepath.Join(p.home, "flat"), demo.Flat, false
	if _, err := demo.Write(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	terminal, stderr := openTerminal(t)
	cmd := p.command("info", cfg.Dir)
	cmd.Stderr = stderr
	if out, err := cmd.Output(); err != nil || !bytes.Contains(out, []byte("scan")) {
		t.Fatalf("info: %v\n%s", err, out)
	}
	stderr.Close()
	_ = terminal.SetReadDeadline(time.Now().Add(2 * time.Second))
	var shown []byte
	buf := make([]byte, 4096)
	for {
		n, err := terminal.Read(buf) // EIO when nobody has it open
		shown = append(shown, buf[:n]...)
		if err != nil {
			break
		}
	}
	if !bytes.Contains(shown, []byte("scanning")) || !bytes.Contains(shown, []byte("4 tiles")) {
		t.Errorf("the terminal shows %q", shown)
	}
	if r := p.run("info", cfg.Dir); r.stderr != "" {
		t.Errorf("without a terminal it says %q", r.stderr)
	}
}

// openTerminal makes a pseudoterminal and opens both its sides.
func openTerminal(t *testing.T) (mine, its *os.File) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	mine = os.NewFile(uintptr(fd), "ptmx")
	t.Cleanup(func() { mine.Close() })
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	its, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { its.Close() })
	// mpb asks for the width; one that is not set would be none.
	if err := unix.IoctlSetWinsize(int(its.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 25, Col: 120}); err != nil {
		t.Fatal(err)
	}
	return mine, its
}
