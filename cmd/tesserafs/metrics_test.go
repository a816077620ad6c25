package main

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/tesserafs/tesserafs/demo"
	"github.com/tesserafs/tesserafs/synth"
	"github.com/tesserafs/tesserafs/tilecache/disk"
	"github.com/tesserafs/tesserafs/tilecache/source/patient"
	"github.com/tesserafs/tesserafs/tilecache/source/sourcetest/gateway"
	"github.com/tesserafs/tesserafs/vfs/fusefs"
)

// get asks for a page of a metrics server.
func get(t *testing.T, url string) (body string, header http.Header) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", url, resp.Status, err)
	}
	return string(data), resp.Header
}

// scraped are the values of a scrape by name and labels, as they are written in it.
type scraped map[string]float64

// scrape takes a scrape, and checks that Prometheus's linter finds no fault with it and that it is public.
func scrape(t *testing.T, url string) scraped {
	t.Helper()
	text, _ := get(t, url)
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	for _, private := range []string{gateway.AccessKey, gateway.SecretKey, "grid_"} {
		if strings.Contains(text, private) {
			t.Errorf("the metrics have %q in them", private)
		}
	}
	values := scraped{}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		at := strings.LastIndexByte(line, ' ')
		if values[line[:at]], err = strconv.ParseFloat(strings.TrimSpace(line[at:]), 64); err != nil {
			t.Errorf("%q: %v", line, err)
		}
	}
	return values
}

// want checks values; a name without one must not be there.
func (s scraped) want(t *testing.T, values map[string]float64, absent ...string) {
	t.Helper()
	for name, want := range values {
		if got, ok := s[name]; !ok || got != want {
			t.Errorf("%s is %v (%v), want %v", name, got, ok, want)
		}
	}
	for name := range s {
		if slices.ContainsFunc(absent, func(a string) bool { return strings.HasPrefix(name, a) }) {
			t.Errorf("%s is there", name)
		}
	}
}

// grew checks that counters grew since a scrape, and that none fell.
func (s scraped) grew(t *testing.T, before scraped, names ...string) {
	t.Helper()
	for _, name := range names {
		if !(s[name] > before[name]) {
			t.Errorf("%s did not grow from %v: it is %v", name, before[name], s[name])
		}
	}
	for name, value := range s {
		if strings.Contains(name, "_total") && value < before[name] {
			t.Errorf("%s fell from %v to %v", name, before[name], value)
		}
	}
}

// measure mounts with metrics at a free port, and says where they are.
func (p *place) measure(args ...string) (url string) {
	p.t.Helper()
	log := filepath.Join(p.t.TempDir(), "log")
	said := p.must(append([]string{"mount", "--daemon", "--metrics", "127.0.0.1:0", "--log-file", log, args[0], p.mnt}, args[1:]...)...)
	url = p.status().Mount.Metrics
	if !strings.HasPrefix(url, "http://127.0.0.1:") || strings.HasSuffix(url, ":0/metrics") || !strings.Contains(said, "metrics:   "+url+"\n") {
		p.t.Errorf("the metrics are at %q, the summary says:\n%s", url, said)
	}
	if data, err := os.ReadFile(log); err != nil || !strings.Contains(string(data), "msg=metrics address="+url) {
		p.t.Errorf("the log is %q (%v)", data, err)
	}
	return url
}

// ends unmounts, after which nobody may listen any more.
func (p *place) ends(url string) {
	p.t.Helper()
	p.must("unmount", p.mnt)
	if c, err := net.Dial("tcp", strings.Split(url, "/")[2]); err == nil {
		c.Close()
		p.t.Error("the metrics outlive the mount")
	}
}

// chunk is a file of the mount.
func (p *place) chunk(parts ...string) string {
	return filepath.Join(append([]string{p.store()}, parts...)...)
}

// Catches metrics that do not move with what they count, fall, are misnamed, or stay behind; figures of a
// remote source where there is none.
func TestMetricsOfDirectory(t *testing.T) {
	p := newPlace(t)
	cfg := archive4
	cfg.Dir = filepath.Join(p.home, "archive")
	if _, err := demo.Write(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(cfg.Files(cfg.Cells[0], 2024).Scales, 1000); err != nil {
		t.Fatal(err)
	}
	url := p.measure(cfg.Dir)
	before := scrape(t, url)
	before.want(t, map[string]float64{
		`tesserafs_catalogue_tiles{dataset="v1"}`: 4, `tesserafs_catalogue_stale{dataset="v1"}`: 0, "tesserafs_failed_tile_objects": 0,
		"tesserafs_pixel_reads_total": 0, "tesserafs_catalogue_refreshes_total": 0, `tesserafs_object_checks_total{result="right"}`: 0,
	}, "tesserafs_source", "tesserafs_disk", "tesserafs_cache")

	if _, err := os.ReadFile(p.chunk("scales", "c", "0", "0")); err == nil {
		t.Error("a truncated tile is read")
	}
	store := filepath.Join(p.mnt, "v1", "zones", "2023", filepath.Base(strings.Replace(p.store(), "2024", "2023", 2)))
	f, err := os.Open(filepath.Join(store, "scales", "c", "0", "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n, err := io.Copy(io.Discard, f)
	if err != nil {
		t.Fatal(err)
	}
	after := scrape(t, url)
	after.want(t, map[string]float64{
		"tesserafs_failed_tile_objects": 1, "tesserafs_hot_copies": 0,
	})
	after.grew(t, before, "tesserafs_tiles_loaded_total", "tesserafs_fuse_reads_total", "tesserafs_fuse_read_failures_total", "tesserafs_pixel_reads_total", "tesserafs_object_opens_total",
		"tesserafs_object_read_bytes_total", "process_cpu_seconds_total")
	if got := after["tesserafs_fuse_read_bytes_total"] - before["tesserafs_fuse_read_bytes_total"]; got < float64(n) {
		t.Errorf("%d bytes were read, %v counted", n, got)
	}
	if after["process_resident_memory_bytes"] < 1<<20 || after["go_goroutines"] < 1 {
		t.Error("no figures of the process")
	}
	// The kernel tells of the end of a file after who closed it went on.
	openFiles := func(n float64) func() bool {
		return func() bool { return scrape(t, url)["tesserafs_fuse_open_files"] == n }
	}
	eventually(t, "one file open", 5*time.Second, openFiles(1))
	f.Close()
	eventually(t, "no file open", 5*time.Second, openFiles(0))
	p.ends(url)
}

// Catches figures of the tree that was before: what is shown changes, and counters go on.
func TestMetricsAfterRefresh(t *testing.T) {
	p := newPlace(t)
	dir, add := growing(t)
	url := p.measure(dir)
	if _, err := os.ReadFile(filepath.Join(p.tileStore(0), "scales", "c", "0", "0")); err != nil {
		t.Fatal(err)
	}
	before := scrape(t, url)
	before.want(t, map[string]float64{`tesserafs_catalogue_tiles{dataset="v1"}`: 1})
	add()
	p.hangUp(p.status().Mount.PID)
	p.refreshed(func(c synth.CatalogueStatus) bool { return c.Refreshed == 1 })
	after := scrape(t, url)
	after.want(t, map[string]float64{
		`tesserafs_catalogue_tiles{dataset="v1"}`: 2, "tesserafs_catalogue_refreshes_total": 1, "tesserafs_catalogue_refresh_failed": 0,
	})
	after.grew(t, before, "tesserafs_fuse_reads_total")
	p.ends(url)
}

// startGateway shows the archive in the bucket archives, to those who have its credentials.
func startGateway(t *testing.T) *gateway.S3 {
	t.Helper()
	gateway.Environment(t.Setenv, true)
	g := gateway.StartS3(t)
	g.Bucket("archives", filepath.Dir(archive4.Dir), false)
	return g
}

// remoteArchive is where startGateway has it.
const remoteArchive = "s3://archives/archive"

// Catches requests, bytes, tiers and latencies of a remote archive that are not counted or not told apart, and
// credentials that are told to all who may ask.
func TestMetricsOfRemote(t *testing.T) {
	p, g := newPlace(t), startGateway(t)
	reach := []string{remoteArchive, "--endpoint-url", g.URL, "--cache", filepath.Join(p.home, "cache")}
	read := func() {
		t.Helper()
		if _, err := os.ReadFile(p.chunk("scales", "c", "0", "0")); err != nil {
			t.Fatal(err)
		}
	}
	const fromSource, fromDisk, fromMemory = `tesserafs_cache_pages_total{tier="source"}`, `tesserafs_cache_pages_total{tier="disk"}`, `tesserafs_cache_pages_total{tier="memory"}`

	url := p.measure(reach...)
	before := scrape(t, url)
	before.want(t, map[string]float64{
		"tesserafs_source_up": 1, fromSource: 0, fromDisk: 0, "tesserafs_source_retries_total": 0, "tesserafs_source_unavailable_total": 0,
		`tesserafs_source_request_failures_total{kind="timeout"}`: 0, "tesserafs_source_breaker_opens_total": 0,
		"tesserafs_disk_cache_limit_bytes": defaultCacheSize, `tesserafs_catalogue_stale{dataset="v1"}`: 0,
	})
	read()
	after := scrape(t, url)
	after.grew(t, before, fromSource, "tesserafs_source_requests_total", "tesserafs_source_received_bytes_total",
		"tesserafs_source_request_duration_seconds_count", "tesserafs_source_request_duration_seconds_sum",
		`tesserafs_source_request_duration_seconds_bucket{le="+Inf"}`, "tesserafs_object_read_bytes_total", "tesserafs_cache_memory_bytes")
	read()
	scrape(t, url).grew(t, after, fromMemory)
	if raw := p.must("status", "--json", p.mnt); strings.Contains(raw, gateway.SecretKey) || strings.Contains(raw, gateway.AccessKey) {
		t.Errorf("the status has credentials in it:\n%s", raw)
	}
	for _, want := range []string{"source:    answers, in ", "requests:  ", "pages:     ", "of 10 GiB in " + filepath.Join(p.home, "cache"), "metrics:   " + url} {
		if out := p.must("status", p.mnt); !strings.Contains(out, want) {
			t.Errorf("the status does not say %q:\n%s", want, out)
		}
	}
	p.ends(url)

	g.Stop()
	url = p.measure(append(reach, "--offline")...)
	read()
	offline := scrape(t, url)
	offline.want(t, map[string]float64{fromSource: 0, `tesserafs_catalogue_stale{dataset="v1"}`: 1}, "tesserafs_source_up")
	offline.grew(t, scraped{}, fromDisk, "tesserafs_disk_cache_hits_total", "tesserafs_disk_cache_read_bytes_total", "tesserafs_disk_cache_bytes")
	if out := p.must("status", p.mnt); !strings.Contains(out, "source:    is not asked (--offline)") {
		t.Errorf("the status does not say that nobody is asked:\n%s", out)
	}
	p.ends(url)
}

// full is a status that has all there is.
func full() synth.Status {
	return synth.Status{
		Mount: synth.MountInfo{Version: "devel", Door: fusefs.Stats{}, Options: map[string]any{"offline": false}},
		Datasets: []synth.DatasetStatus{
			{Name: "v1", Tiles: 4, Stale: &synth.StaleStatus{Why: "it is away"}}, {Name: "not \xff UTF-8"}, {Name: `"quoted"` + "\n"},
		},
		Disk: disk.Stats{},
		Source: patient.Stats{
			Failures: map[string]int64{"timeout": 3}, Breaker: patient.Breaker{State: "dead", Why: gateway.SecretKey},
			Latency: patient.Histogram{Buckets: []patient.Bucket{{UpTo: 0.5, Count: 1}, {UpTo: 1, Count: 3}}, Count: 4, Sum: 5.5},
		},
	}
}

// Catches metrics that are not what Describe says, have faults that the linter knows, or are lost for a
// dataset's strange name; a breaker and a histogram told wrongly.
func TestCollector(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(collector(full))
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
	described := make(chan *prometheus.Desc, 100)
	collector(nil).Describe(described)
	if len(described) != len(families) {
		t.Errorf("%d metrics are described, %d are there", len(described), len(families))
	}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "tesserafs_") || !strings.HasSuffix(f.GetHelp(), ".") || len(f.GetHelp()) < 20 {
			t.Errorf("%s: %q", f.GetName(), f.GetHelp())
		}
	}
	s, err := listenMetrics(t.Context(), ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	s.start(full, slog.New(slog.DiscardHandler))
	scrape(t, s.url()).want(t, map[string]float64{
		"tesserafs_source_up": 0, `tesserafs_source_request_failures_total{kind="timeout"}`: 3,
		`tesserafs_source_request_duration_seconds_bucket{le="0.5"}`:  1,
		`tesserafs_source_request_duration_seconds_bucket{le="1"}`:    3,
		`tesserafs_source_request_duration_seconds_bucket{le="+Inf"}`: 4, "tesserafs_source_request_duration_seconds_sum": 5.5,
		`tesserafs_catalogue_stale{dataset="v1"}`: 1, `tesserafs_catalogue_stale{dataset="\"not \\xff UTF-8\""}`: 0,
		`tesserafs_catalogue_stale{dataset="\"quoted\"\n"}`: 0,
	})
}
