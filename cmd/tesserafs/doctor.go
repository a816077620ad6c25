package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/tesserafs/tesserafs/grid"
	"github.com/tesserafs/tesserafs/vfs/fusefs"
)

// verdict is what a check comes to. The zero verdict is all right.
type verdict string

const (
	ok   verdict = "ok"
	warn verdict = "warn" // works, though not as well as it could
	fail verdict = "fail" // does not work
)

// finding is what a check has to say, and what to do about it.
type finding struct {
	verdict verdict
	what    string
	says    string
}

func doctorCommand() *cobra.Command {
	var f sourceFlags
	cmd := &cobra.Command{
		Use:   "doctor [SOURCE]",
		Short: "Check what may keep this machine from mounting",
		Long: `Check what mounting needs of this machine (libproj, FUSE, permissions, limits), what makes it
faster, and whether dead mounts lie about; with SOURCE also whether an archive is there and the
first tile of each year can be opened. A line a check: ok, warn (works, though not as well as it
could) or fail, and what to do. Exits with 1 when a check fails.

` + exitHelp,
		Args: arguments("[SOURCE]"),
		RunE: func(cmd *cobra.Command, args []string) error {
			h := thisHost()
			findings := []finding{
				checkProjection(), h.findDevice(), h.findHelper(), h.findOthers(), findKernel(h.root),
				findMemory("/proc/meminfo", "/sys/fs/cgroup/memory.max"), findOpenFiles(), h.findDeadMounts(),
			}
			if len(args) > 0 {
				findings = append(findings, findArchive(cmd.Context(), args[0], f)...)
			}
			return report(cmd.OutOrStdout(), findings)
		},
	}
	f.addSource(cmd.Flags())
	return cmd
}

func report(w io.Writer, findings []finding) error {
	var rows [][]string
	failed := 0
	for _, f := range findings {
		if f.verdict == fail {
			failed++
		}
		rows = append(rows, []string{string(f.verdict), f.what, oneLine(f.says)})
	}
	table(w, "", rows)
	if failed > 0 {
		return fmt.Errorf("%s failed", count(failed, "check"))
	}
	return nil
}

// failing makes a finding of an error, or of what is said where there is none.
func failing(what string, err error, otherwise string) finding {
	if err != nil {
		return finding{fail, what, err.Error()}
	}
	return finding{ok, what, otherwise}
}

// checkProjection projects a tile of each hemisphere. The figures are pyproj's.
func checkProjection() finding {
	const what = "libproj"
	for _, want := range []grid.Footprint{
		{Cell: grid.Cell{Lon: 15, Lat: 5205}, Easting: 300933.9364336125, Northing: 5776128.477681198, Height: 1139, Width: 729},
		{Cell: grid.Cell{Lon: -7065, Lat: -3345}, Easting: 341904.32939279743, Northing: 6303223.750659054, Height: 1124, Width: 947},
	} {
		got, err := grid.Footprints([]grid.Cell{want.Cell})
		if err != nil {
			return finding{fail, what, err.Error() + ": reinstall it with 'sudo apt install --reinstall libproj-dev proj-data'"}
		}
		const metres = 0.001
		if g := got[0]; g.Height != want.Height || g.Width != want.Width ||
			math.Abs(g.Easting-want.Easting) > metres || math.Abs(g.Northing-want.Northing) > metres {
			return finding{fail, what, fmt.Sprintf("projects %v to %.3f, %.3f instead of %.3f, %.3f: reinstall it with 'sudo apt install --reinstall libproj-dev proj-data'",
				want.Cell, g.Easting, g.Northing, want.Easting, want.Northing)}
		}
	}
	return finding{ok, what, "projects to the millimetre"}
}

func (h host) findDevice() finding {
	return failing("fuse device", h.checkDevice(), h.device+" can be opened")
}

func (h host) findHelper() finding {
	says := h.fusermount + " is there"
	if h.root {
		says = "root needs no " + h.fusermount
	}
	return failing("fuse helper", h.checkHelper(), says)
}

func (h host) findOthers() finding {
	says := "--allow-other is permitted"
	if !h.othersAllowed() {
		says = fmt.Sprintf("--allow-other is not permitted; if you want it, put the line user_allow_other into %s", h.fuseConf)
	}
	return finding{ok, "other users", says}
}

// passthroughKernel is the first Linux that can serve FUSE files from others.
var passthroughKernel = [2]int{6, 9}

func findKernel(root bool) finding {
	const what = "kernel"
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return finding{warn, what, "cannot ask for its version: " + err.Error()}
	}
	release := unix.ByteSliceToString(u.Release[:])
	v, err := kernelVersion(release)
	if err != nil {
		return finding{warn, what, err.Error()}
	}
	head := "Linux " + release + ": "
	switch {
	case v[0] < passthroughKernel[0] || v[0] == passthroughKernel[0] && v[1] < passthroughKernel[1]:
		return finding{warn, what, head + "what is read again and again would be faster with Linux 6.9 and root (FUSE passthrough)"}
	case !root:
		return finding{ok, what, head + "has FUSE passthrough, which is used when root mounts"}
	case inUserNamespace():
		return finding{ok, what, head + "has FUSE passthrough, which cannot be used inside a user namespace"}
	}
	return finding{ok, what, head + "has FUSE passthrough, which makes what is read again and again faster"}
}

// kernelVersion reads the first two numbers of a release such as 6.1.0-18-amd64.
func kernelVersion(release string) (v [2]int, err error) {
	parts := strings.SplitN(release, ".", 3)
	if len(parts) < 2 {
		return v, fmt.Errorf("cannot read the version %q", release)
	}
	for i := range v {
		digits := parts[i]
		if end := strings.IndexFunc(digits, func(r rune) bool { return r < '0' || r > '9' }); end >= 0 {
			digits = digits[:end]
		}
		if v[i], err = strconv.Atoi(digits); err != nil {
			return v, fmt.Errorf("cannot read the version %q", release)
		}
	}
	return v, nil
}

// inUserNamespace says whether root here is not root of the machine (user_namespaces(7)).
func inUserNamespace() bool {
	ids, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && strings.Join(strings.Fields(string(ids)), " ") != "0 0 4294967295"
}

// enoughMemory is what a mount and a client need between them.
const enoughMemory = 1 << 30

// findMemory takes the least of what the machine has and what the control group may use.
func findMemory(meminfo, cgroup string) finding {
	const what = "memory"
	data, err := os.ReadFile(meminfo)
	if err != nil {
		return finding{warn, what, err.Error()}
	}
	available, of := int64(-1), "available"
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == "MemAvailable:" {
			if kib, err := strconv.ParseInt(f[1], 10, 64); err == nil {
				available = kib << 10
			}
		}
	}
	if limit, err := os.ReadFile(cgroup); err == nil {
		if n, err := strconv.ParseInt(strings.TrimSpace(string(limit)), 10, 64); err == nil && (available < 0 || n < available) {
			available, of = n, "allowed by the control group"
		}
	}
	if available < 0 {
		return finding{warn, what, meminfo + " does not say how much is available"}
	}
	says := fmt.Sprintf("%s %s", byteSize(available), of)
	if available < enoughMemory {
		return finding{warn, what, says + "; a mount takes up to 256 MiB and the page cache makes it fast: 1 GiB or more is better"}
	}
	return finding{ok, what, says}
}

// enoughFiles are those of a cache of open tiles, four times (package tilecache takes a quarter).
const enoughFiles = 2048

func findOpenFiles() finding {
	const what = "open files"
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return finding{warn, what, err.Error()}
	}
	// Go raises the soft limit to the hard one when it starts.
	says := fmt.Sprintf("up to %d", l.Cur)
	if l.Cur < enoughFiles {
		return finding{warn, what, fmt.Sprintf("%s, so few tiles are kept open: allow more with 'ulimit -Hn %d' or in /etc/security/limits.conf", says, enoughFiles)}
	}
	return finding{ok, what, says}
}

func (h host) findDeadMounts() finding {
	const what = "dead mounts"
	data, err := os.ReadFile(h.mountinfo)
	if err != nil {
		return finding{warn, what, err.Error()}
	}
	dirs := mountsOf(string(data))
	var dead []string
	for _, dir := range dirs {
		if stale, err := fusefs.Stale(dir); err == nil && stale {
			dead = append(dead, "tesserafs unmount "+shellWord(dir))
		}
	}
	if len(dead) > 0 {
		return finding{warn, what, "clear them with '" + strings.Join(dead, "; ") + "'"}
	}
	return finding{ok, what, fmt.Sprintf("none among %s of tesserafs", count(len(dirs), "mount"))}
}

// mountsOf lists the directories of tesserafs mounts in mountinfo (proc_pid_mountinfo(5)).
func mountsOf(mountinfo string) []string {
	var dirs []string
	for line := range strings.Lines(mountinfo) {
		before, after, _ := strings.Cut(line, " - ")
		f := strings.Fields(before)
		if len(f) < 5 || !strings.HasPrefix(after, "fuse.tesserafs ") {
			continue
		}
		// Spaces, tabs, line ends and backslashes are written in octal.
		dirs = append(dirs, strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(f[4]))
	}
	return dirs
}

// findArchive looks for an archive and opens a tile of each of its years.
func findArchive(ctx context.Context, path string, f sourceFlags) []finding {
	const what = "archive"
	a, err := openArchive(ctx, path, f, slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
	if err != nil {
		return []finding{{fail, what, err.Error()}}
	}
	defer a.Close()
	var out []finding
	for _, ds := range a.catalogue.Datasets {
		says := fmt.Sprintf("%s: %s tiles, %s, listed in %s", ds.Name(), group(ds.Len()), byteSize(ds.Bytes()), ds.Origin())
		out = append(out, finding{ok, what, says})
		for _, year := range ds.Years() {
			t := ds.Tiles(year, 0).At(0)
			embeddings, scales, _ := ds.Objects(year, t.Cell)
			if err := errors.Join(a.tryObject(ctx, embeddings, t.Embeddings), a.tryObject(ctx, scales, t.Scales)); err != nil {
				out = append(out, finding{fail, what, err.Error()})
			}
		}
	}
	return out
}

// tryObject opens an object and compares its size with the listed one, -1 for not known.
func (a *archive) tryObject(ctx context.Context, name string, size int64) error {
	o, err := a.source.Open(ctx, name)
	if err != nil {
		return fmt.Errorf("a listed tile cannot be opened: %w", err)
	}
	defer o.Close()
	if got := o.Info().Size; size >= 0 && got != size {
		return errors.New(name + " has " + strconv.FormatInt(got, 10) + " bytes, listed are " + strconv.FormatInt(size, 10) + ": is the copy complete?")
	}
	return nil
}
