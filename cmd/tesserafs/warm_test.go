package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tesserafs/tesserafs/demo"
	"github.com/tesserafs/tesserafs/tilecache/source/sourcetest/gateway"
)

// away is an archive in a bucket, which a test may change, and how to reach it.
type away struct {
	*place
	*gateway.S3
	dir   string
	first demo.Files
	reach []string
}

func newAway(t *testing.T) *away {
	t.Helper()
	a := &away{place: newPlace(t)}
	a.dir, a.first = copyArchive(t)
	gateway.Environment(t.Setenv, false)
	a.S3 = gateway.StartS3(t)
	a.Bucket("bucket", a.dir, true)
	a.reach = []string{"s3://bucket", "--endpoint-url", a.URL, "--cache", filepath.Join(a.home, "cache")}
	return a
}

func (a *away) with(command string, more ...string) []string {
	return append(append([]string{command}, a.reach...), more...)
}

// warm runs warm and returns its table's row of the dataset, in fields.
func (a *away) warm(code int, more ...string) (row []string, r result) {
	a.t.Helper()
	r = a.run(a.with("warm", more...)...)
	lines := strings.Split(strings.TrimSuffix(r.stdout, "\n"), "\n")
	if r.code != code || len(lines) < 2 || !strings.HasPrefix(lines[len(lines)-2], "DATASET  TILES  KEPT") {
		a.t.Fatalf("warm: exit code %d, want %d\n%s%s", r.code, code, r.stdout, r.stderr)
	}
	return regexp.MustCompile("  +").Split(lines[len(lines)-1], -1), r
}

// points writes a table of a point in each cell.
func (p *place) points(year int) string {
	p.t.Helper()
	var b strings.Builder
	b.WriteString("lon,lat,year\n")
	for _, c := range archive4.Cells {
		lon, lat := c.LonLat()
		fmt.Fprintf(&b, "%g,%g,%d\n", lon, lat, year)
	}
	path := filepath.Join(p.home, fmt.Sprintf("points%d.csv", year))
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		p.t.Fatal(err)
	}
	return path
}

// Catches tiles that are not fetched whole, that are fetched twice, or that are counted wrong; and, once the
// source is gone, values that are not those of the archive, and absence or fill where nothing was fetched.
func TestWarmThenOffline(t *testing.T) {
	a := newAway(t)
	if err := os.Remove(a.first.Landmask); err != nil { // nothing lists it: the registry goes, too
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(a.dir, "landmasks", "v1", "landmasks.parquet")); err != nil {
		t.Fatal(err)
	}
	row, r := a.warm(exitDone, "--years", "2024")
	if fetched := row[5]; strings.Join(row[:5], " ") != "v1 2 2 0 0" || !strings.Contains(fetched, "MiB") || row[6] != "0 B" {
		t.Errorf("got %q", row)
	}
	if want := ": 2 tiles, " + row[5] + ", of which 0 B are in the cache already\nfetched " + row[5] + " "; !strings.Contains(r.stderr, want) {
		t.Errorf("on standard error %q, want %q", r.stderr, want)
	}
	whole := row[5]
	if row, _ = a.warm(exitDone, "--years", "2024"); row[5] != "0 B" || row[6] != whole {
		t.Errorf("once more: %q", row)
	}
	local := a.run("points", a.dir, a.points(2024))
	a.Stop()

	if r := a.run(a.with("info", "--offline")...); r.code != exitDone || !strings.Contains(r.stdout, "v1/zones/2023/") {
		t.Errorf("info --offline: exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	if r := a.run(a.with("points", a.points(2024), "--offline")...); r.code != exitDone || r.stdout != local.stdout || local.code != exitDone {
		t.Errorf("points --offline: exit code %d\n%s", r.code, r.stderr)
	}
	r = a.run(a.with("points", a.points(2023), "--offline")...)
	if r.code == exitDone || !strings.Contains(r.stderr, "grid_") || !strings.Contains(r.stderr, "tesserafs warm") {
		t.Errorf("points of what was not fetched: exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	log := filepath.Join(a.home, "log")
	if r := a.run(a.with("mount", a.mnt, "--offline", "--daemon", "--log-file", log)...); r.code != exitDone {
		t.Fatalf("mount --offline: exit code %d\n%s", r.code, r.stderr)
	}
	defer a.must("unmount", a.mnt)
	if _, err := os.ReadFile(filepath.Join(a.store(), "embeddings", "c", "0", "0", "0")); err != nil {
		t.Errorf("what was fetched: %v", err)
	}
	old := strings.ReplaceAll(a.store(), "2024", "2023")
	if _, err := os.ReadFile(filepath.Join(old, "zarr.json")); err != nil {
		t.Errorf("documents of what was not fetched: %v", err)
	}
	if _, err := os.ReadFile(filepath.Join(old, "scales", "c", "0", "0")); !errors.Is(err, syscall.EIO) {
		t.Errorf("pixels of what was not fetched: %v", err)
	}
	if logged, err := os.ReadFile(log); err != nil || strings.Count(string(logged), "tile cannot be read") < 1 || !strings.Contains(string(logged), "fetch it with tesserafs warm") {
		t.Errorf("logged %s, %v", logged, err)
	}
	if r := a.run(a.with("warm", "--years", "2024")...); r.code != exitUnreachable {
		t.Errorf("warm of a source that is gone: exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
}

// Catches objects that are lost or are not what is listed and are passed over, that end the run, or whose lines do
// not say what and where.
func TestWarmFindings(t *testing.T) {
	a := newAway(t)
	second := archive4
	second.Dir = a.dir
	other := second.Files(archive4.Cells[1], 2023)
	if err := errors.Join(os.Remove(a.first.Scales), os.Remove(a.first.Landmask), os.Truncate(other.Embeddings, 5000)); err != nil {
		t.Fatal(err)
	}
	row, r := a.warm(exitData)
	if strings.Join(row[:5], " ") != "v1 4 1 3 0" { // the landmask is of two tiles
		t.Errorf("got %q", row)
	}
	name := func(path string) string {
		rel, err := filepath.Rel(a.dir, path)
		if err != nil {
			t.Fatal(err)
		}
		return rel
	}
	for _, want := range []string{
		"wrong: v1 2023 " + archive4.Cells[0].String() + ": " + name(a.first.Scales) + ": is not there, and the catalogue lists it; ",
		"wrong: v1 2024 " + archive4.Cells[0].String() + ": " + name(a.first.Landmask) + ": is not there, and the landmask registry lists it; ",
		"wrong: v1 2023 " + archive4.Cells[1].String() + ": " + name(other.Embeddings) + ": has 5000 bytes, the catalogue says ",
	} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("%q is not said in:\n%s", want, r.stdout)
		}
	}
	if strings.Count(r.stdout, "wrong: ") != 4 || !strings.HasSuffix(r.stderr, "tesserafs: warm: of 4 tiles 1 are kept, 3 wrong, 0 failed\n") {
		t.Errorf("got\n%s%s", r.stdout, r.stderr)
	}
}

// Catches a run that begins what it cannot end well.
func TestWarmRefuses(t *testing.T) {
	a := newAway(t)
	a.refuses(exitUsage, []string{"nothing to warm", "is a directory"}, "warm", a.dir)
	a.refuses(exitUsage, []string{"--cache-size cannot be 0"}, a.with("warm", "--cache-size", "0")...)
	a.refuses(exitUsage, []string{"4 tiles are ", "at --cache-size 20 MiB", "give --cache-size 64MiB or more"}, a.with("warm", "--cache-size", "20MiB")...)
	a.refuses(exitUsage, []string{"no tile in the area"}, a.with("warm", "--bbox", "0,0,1,1")...)
	a.refuses(exitUsage, []string{`no dataset "v2"`}, a.with("warm", "--dataset", "v2")...)
	if err := os.Rename(filepath.Join(a.dir, "npy", "v1", "manifest.parquet"), filepath.Join(a.dir, "manifest")); err != nil {
		t.Fatal(err)
	}
	if _, r := a.warm(exitDone, "--years", "2024", "--cache", filepath.Join(a.home, "other")); !strings.Contains(r.stderr, "not with --offline") {
		t.Errorf("without a manifest: %s", r.stderr)
	}
	if err := os.Rename(filepath.Join(a.dir, "manifest"), filepath.Join(a.dir, "npy", "v1", "manifest.parquet")); err != nil {
		t.Fatal(err)
	}
	if row, _ := a.warm(exitDone, "--cache-size", "64MiB"); row[2] != "4" {
		t.Errorf("with the limit it asks for: %q", row)
	}
	n := warmNeed{tiles: 1, bytes: 50 << 30, held: 20 << 30, takes: 51 << 30, more: 31 << 30}
	for _, test := range []struct {
		limit, kept, free int64
		want              string
	}{
		{100, 20, 32, ""},
		{100, 20, 30, "30 GiB of 50 GiB are still to be fetched, and the disk of /cache has 30 GiB left"},
		{60, 50, 11, ""},                      // what was kept makes room
		{60, 50, 9, "has 9 GiB left"},         // but not all of it
		{56, 0, 100, "--cache-size 57GiB or"}, // 51/0.9
	} {
		err := n.fitsLimit(byteSize(test.limit << 30))
		if err == nil {
			err = n.fitsDisk(byteSize(test.limit<<30), test.kept<<30, test.free<<30, "/cache")
		}
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: %v", test, err)
		}
	}
}

// narrow passes connections on to an address, with so many bytes a second for all of them; 0 is without end.
func narrow(t *testing.T, to string, rate int64) (addr string, setRate func(int64)) {
	t.Helper()
	var now atomic.Int64
	now.Store(rate)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var under sync.WaitGroup
	var line sync.Mutex // what passes has it
	under.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			under.Go(func() { _, _ = io.Copy(out, in); out.Close() })
			under.Go(func() {
				defer in.Close()
				for p := make([]byte, 16<<10); ; {
					n, err := out.Read(p)
					if rate := now.Load(); rate > 0 {
						line.Lock()
						time.Sleep(time.Duration(n) * time.Second / time.Duration(rate))
						line.Unlock()
					}
					if _, failed := in.Write(p[:n]); failed != nil || err != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() { l.Close(); under.Wait() })
	return l.Addr().String(), now.Store
}

// Catches Ctrl-C that does not end, or without saying how to go on; and what came before it fetched again.
func TestWarmInterrupted(t *testing.T) {
	a := newAway(t)
	addr, setRate := narrow(t, strings.TrimPrefix(a.URL, "http://"), 4<<20)
	a.reach[2] = "http://" + addr
	cmd := a.command(a.with("warm", "--max-requests", "2")...) // so that some are done at half time
	var stdout bytes.Buffer
	cmd.Stdout = &stdout
	pipe, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() }).Stop()
	var said []string
	var asked time.Time
	for s := bufio.NewScanner(pipe); s.Scan(); {
		if said = append(said, s.Text()); asked.IsZero() {
			time.Sleep(1500 * time.Millisecond) // of about 3 s
			asked = time.Now()
			if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
		}
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != exitFailed || time.Since(asked) > 5*time.Second {
		t.Errorf("%v after %v", err, time.Since(asked))
	}
	if last := said[len(said)-1]; last != "tesserafs: warm: interrupted: what has come is kept, run it again to go on" || !strings.Contains(stdout.String(), "DATASET") {
		t.Errorf("said %q\n%s", said, &stdout)
	}
	setRate(0)
	row, r := a.warm(exitDone)
	held := regexp.MustCompile(`, of which (\S+ \S+) are in the cache already`).FindStringSubmatch(r.stderr)
	if row[2] != "4" || !strings.Contains(row[5], "MiB") || !strings.Contains(row[6], "MiB") || held == nil || held[1] != row[6] {
		t.Errorf("once more: %q, %s", row, r.stderr)
	}
}

// Catches a rate or a time left that what was there already makes better than they are, a line for every
// request, and none at all.
func TestTransfer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		shown := newTransfer(&out, false)
		shown.begin(400<<20, 100<<20)
		shown.resize(20 << 20)
		shown.add(0, 50<<20)
		for range 250 { // 1 MiB in 100 ms
			time.Sleep(100 * time.Millisecond)
			shown.add(1<<20, 0)
		}
		shown.tile()
		shown.end()
		want := "150 MiB of 420 MiB, 0 tiles, 10 MiB/s, about 22 s left\n" +
			"250 MiB of 420 MiB, 0 tiles, 10 MiB/s, about 12 s left\n"
		if out.String() != want {
			t.Errorf("got\n%swant\n%s", &out, want)
		}
		time.Sleep(time.Minute)
		shown.add(1<<20, 0)
		if lines := strings.Split(out.String(), "\n"); !strings.HasPrefix(lines[2], "301 MiB of 420 MiB, 1 tile, ") || strings.Contains(lines[2], "10 MiB/s") {
			t.Errorf("after a minute of nothing: %q", lines[2])
		}
		shown = newTransfer(&out, false)
		out.Reset()
		shown.begin(0, 0)
		shown.add(0, 0)
		if out.Len() > 0 {
			t.Errorf("got %q", &out)
		}
	})
	for d, want := range map[time.Duration]string{
		0: "0 s", time.Millisecond: "1 s", 59 * time.Second: "59 s", 90 * time.Second: "2 min", 89 * time.Minute: "1.5 h", 1 << 62: "100000.0 h",
	} {
		if got := roughly(d); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}
