package main

import (
	"strconv"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tesserafs/tesserafs/synth"
	"github.com/tesserafs/tesserafs/tilecache"
	"github.com/tesserafs/tesserafs/tilecache/disk"
	"github.com/tesserafs/tesserafs/tilecache/source/patient"
	"github.com/tesserafs/tesserafs/vfs/fusefs"
)

// The metrics of a mount are the numbers of its status.json under the names that Prometheus has for such
// things (https://prometheus.io/docs/practices/naming). Nothing is counted for them: a collection takes one
// status. What an archive in a directory has not, such as requests, it has no metrics of.

// figure is a number of a status, or of a part of it, and its metric.
type figure[S any] struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	of   func(S) int64
}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("tesserafs_"+name, help, labels, nil)
}

// counter is of what only grows.
func counter[S any](name, help string, of func(S) int64) figure[S] {
	return figure[S]{describe(name, help), prometheus.CounterValue, of}
}

// gauge is of what goes up and down.
func gauge[S any](name, help string, of func(S) int64) figure[S] {
	return figure[S]{describe(name, help), prometheus.GaugeValue, of}
}

var treeFigures = []figure[synth.Status]{
	counter("pixel_reads_total", "Reads of pixels: of chunks, or of parts of them, that were made from tiles.",
		func(s synth.Status) int64 { return s.Reads.Requests }),
	counter("pixel_read_bytes_total", "Bytes that reads of pixels asked for.",
		func(s synth.Status) int64 { return s.Reads.Bytes }),
	counter("tiles_loaded_total", "Tiles whose headers and validity were loaded. One that was dropped from memory and is read again counts again.",
		func(s synth.Status) int64 { return s.Reads.Tiles }),
	gauge("failed_tile_objects", "Objects of tiles (embeddings, scales or landmask) that could not be read since the archive was last read, 10000 at most. 'tesserafs status' names them and says why.",
		func(s synth.Status) int64 { return int64(len(s.FailedTiles)) }),
	gauge("warned_tile_objects", "Objects of tiles that were warned of since the archive was last read, such as landmasks that are missing, 10000 at most. 'tesserafs status' names them and says why.",
		func(s synth.Status) int64 { return int64(len(s.Warnings)) }),

	gauge("catalogue_read_timestamp_seconds", "Unix time when what is shown of the archive was read.",
		func(s synth.Status) int64 { return s.Catalogue.Read.Unix() }),
	counter("catalogue_refreshes_total", "Times the archive was read again, on SIGHUP or by --refresh, and what it had become was shown.",
		func(s synth.Status) int64 { return s.Catalogue.Refreshed }),
	counter("catalogue_refresh_failures_total", "Times the archive could not be read again, so that what was read before is still shown.",
		func(s synth.Status) int64 { return s.Catalogue.Failed }),
	gauge("catalogue_refresh_failed", "Whether the archive could not be read again the last time this was tried: 1 if so, otherwise 0.",
		func(s synth.Status) int64 { return oneIf(s.Catalogue.Error != "") }),
}

var doorFigures = []figure[fusefs.Stats]{
	counter("fuse_reads_total", "Reads of files of the mount that this process answered, failed ones included. What the kernel reads from hot copies by itself does not count.",
		func(s fusefs.Stats) int64 { return s.Reads }),
	counter("fuse_read_bytes_total", "Bytes that this process answered reads of files of the mount with.",
		func(s fusefs.Stats) int64 { return s.Bytes }),
	counter("fuse_read_failures_total", "Reads of files of the mount that failed, as with EIO or ESTALE. Interrupted ones do not count.",
		func(s fusefs.Stats) int64 { return s.Failed }),
	gauge("fuse_open_files", "Files of the mount that are open.",
		func(s fusefs.Stats) int64 { return s.OpenFiles }),
	gauge("hot_copies", "Copies in memory of files that are read again and again, which the kernel reads by itself.",
		func(s fusefs.Stats) int64 { return s.HotFiles }),
	gauge("hot_copy_bytes", "Bytes of memory that hot copies take.",
		func(s fusefs.Stats) int64 { return s.HotBytes }),
	counter("hot_opens_total", "Opens of files that a hot copy served.",
		func(s fusefs.Stats) int64 { return s.HotOpens }),
}

var objectFigures = []figure[tilecache.Stats]{
	gauge("objects_open", "Objects of tiles that are kept open.",
		func(s tilecache.Stats) int64 { return s.OpenObjects }),
	counter("object_opens_total", "Times the source was asked to open an object of a tile.",
		func(s tilecache.Stats) int64 { return s.Opens }),
	counter("object_read_bytes_total", "Bytes of objects of tiles that were wanted to make what was read, and were got, wherever they were.",
		func(s tilecache.Stats) int64 { return s.BytesRead }),
}

var pageFigures = []figure[tilecache.Stats]{
	counter("cache_fetches_total", "Ranges of objects that the source was asked for, besides opens. Each is a request, or several where one was not enough.",
		func(s tilecache.Stats) int64 { return s.Requests }),
	counter("cache_fetched_bytes_total", "Bytes of pages that came from the source.",
		func(s tilecache.Stats) int64 { return s.BytesFetched }),
	gauge("cache_fetches_in_flight", "Ranges of objects that the source is being asked for.",
		func(s tilecache.Stats) int64 { return s.Fetches }),
	counter("cache_ahead_bytes_total", "Bytes of pages that were fetched before anybody wanted them.",
		func(s tilecache.Stats) int64 { return s.AheadBytes }),
	counter("cache_ahead_used_bytes_total", "Bytes of pages that were fetched before anybody wanted them, and were wanted since.",
		func(s tilecache.Stats) int64 { return s.AheadBytesUsed }),
	gauge("cache_memory_bytes", "Bytes of memory that pages take.",
		func(s tilecache.Stats) int64 { return s.MemoryBytes }),
	counter("cache_dropped_writes_total", "Pages that were not kept on disk because the disk was too slow for them.",
		func(s tilecache.Stats) int64 { return s.DroppedWrites }),
}

var diskFigures = []figure[disk.Stats]{
	counter("disk_cache_hits_total", "Pages that were read from the cache on disk.",
		func(s disk.Stats) int64 { return s.Hits }),
	counter("disk_cache_misses_total", "Reads of the cache on disk that ended before a page that it does not have.",
		func(s disk.Stats) int64 { return s.Misses }),
	counter("disk_cache_read_bytes_total", "Bytes that were read from the cache on disk.",
		func(s disk.Stats) int64 { return s.BytesRead }),
	counter("disk_cache_written_bytes_total", "Bytes that were written to the cache on disk.",
		func(s disk.Stats) int64 { return s.BytesWritten }),
	counter("disk_cache_damaged_pages_total", "Pages on disk that had other bytes than were written or could not be read, and were dropped to be fetched again.",
		func(s disk.Stats) int64 { return s.DamagedPages }),
	counter("disk_cache_write_failures_total", "Pages that could not be written to the cache on disk, as on a disk that is full.",
		func(s disk.Stats) int64 { return s.WriteFailures }),
	counter("disk_cache_evictions_total", "Objects that this process removed from the cache on disk, or shortened, to keep to its limit.",
		func(s disk.Stats) int64 { return s.Evictions }),
	gauge("disk_cache_bytes", "Bytes that the cache takes on disk, for all processes that use its directory.",
		func(s disk.Stats) int64 { return s.BytesKept }),
	gauge("disk_cache_limit_bytes", "Bytes that the cache may take on disk.",
		func(s disk.Stats) int64 { return s.Limit }),
}

var sourceFigures = []figure[patient.Stats]{
	counter("source_requests_total", "Requests that were sent to the source: opens, reads and listings, with retries, second requests and probes.",
		func(s patient.Stats) int64 { return s.Requests }),
	counter("source_received_bytes_total", "Bytes of objects that the source sent, those of second requests included.",
		func(s patient.Stats) int64 { return s.Bytes }),
	counter("source_retries_total", "Requests that were sent again after a failure that may pass.",
		func(s patient.Stats) int64 { return s.Retries }),
	counter("source_hedges_total", "Second requests that were sent beside one that took long.",
		func(s patient.Stats) int64 { return s.Hedges }),
	counter("source_hedges_won_total", "Second requests that were answered before the ones they were sent beside.",
		func(s patient.Stats) int64 { return s.HedgesWon }),
	counter("source_unavailable_total", "Calls that were given up after all retries, or at once while the source did not answer. Readers get EIO for these.",
		func(s patient.Stats) int64 { return s.Unavailable }),
	gauge("source_requests_in_flight", "Requests that the source has not answered yet.",
		func(s patient.Stats) int64 { return s.InFlight }),
	gauge("source_requests_waiting", "Calls that wait for one of the requests in flight to end, as --max-requests are.",
		func(s patient.Stats) int64 { return s.Waiting }),
	counter("source_breaker_opens_total", "Times the source was found not to answer, so that the circuit breaker opened.",
		func(s patient.Stats) int64 { return s.Breaker.Deaths }),
}

// Metrics that have labels, or are not counts.
var (
	buildInfo = describe("build_info", "The version of tesserafs, as a label; always 1.", "version")

	datasetTiles = describe("catalogue_tiles", "Tiles of a dataset that are shown, of all years.", "dataset")
	datasetBytes = describe("catalogue_tile_bytes", "Bytes of a dataset's tiles as they are stored in the archive.", "dataset")
	datasetStale = describe("catalogue_stale", "Whether the list of a dataset's tiles may be out of date: 1 where the source could not be asked for it and a copy is used, otherwise 0.", "dataset")

	objectChecks = describe("object_checks_total", "Objects of tiles that were read whole and compared with a checksum, with --verify: right, mismatched, which are read no more, or with no checksum to compare with (without).", "result")

	cachePages = describe("cache_pages_total", "Pages of 16 KiB by where they were found or came from. Readers found them in memory, or under way already for others (joined); "+
		"the others were read from disk or fetched from the source, some ahead of readers.", "tier")

	sourceUp       = describe("source_up", "Whether the source answers: 1, or 0 while the circuit breaker is open, when readers get EIO at once and only probes are sent, or where it was not reached yet.")
	sourceFailures = describe("source_request_failures_total", "Requests to the source that failed. Transient failures and timeouts are retried; "+
		"missing, denied, changed and other ones are answers and are not.", "kind")
	sourceDuration = describe("source_request_duration_seconds", "How long requests to the source took that opened an object or read a range of it and brought what was asked, from sending to the last byte.")
)

// collector collects the metrics of a mount from its status as it is now.
type collector func() synth.Status

var _ prometheus.Collector = collector(nil)

// Describe names the metrics of all kinds of mounts.
func (collector) Describe(out chan<- *prometheus.Desc) {
	describeAll(out, treeFigures)
	describeAll(out, doorFigures)
	describeAll(out, objectFigures)
	describeAll(out, pageFigures)
	describeAll(out, diskFigures)
	describeAll(out, sourceFigures)
	for _, d := range []*prometheus.Desc{
		buildInfo, datasetTiles, datasetBytes, datasetStale, objectChecks, cachePages, sourceUp, sourceFailures, sourceDuration,
	} {
		out <- d
	}
}

func (status collector) Collect(out chan<- prometheus.Metric) {
	s := status()
	send(out, buildInfo, prometheus.GaugeValue, 1, s.Mount.Version)
	sendAll(out, treeFigures, s)
	for _, d := range s.Datasets {
		name := labelOf(d.Name)
		send(out, datasetTiles, prometheus.GaugeValue, int64(d.Tiles), name)
		send(out, datasetBytes, prometheus.GaugeValue, d.Bytes, name)
		send(out, datasetStale, prometheus.GaugeValue, oneIf(d.Stale != nil), name)
	}
	if door, ok := s.Mount.Door.(fusefs.Stats); ok {
		sendAll(out, doorFigures, door)
	}
	sendAll(out, objectFigures, s.Objects)
	for result, n := range map[string]int64{
		"right": s.Objects.Verified, "mismatched": s.Objects.Mismatched, "without": s.Objects.WithoutChecksum,
	} {
		send(out, objectChecks, prometheus.CounterValue, n, result)
	}
	if d, ok := s.Disk.(disk.Stats); ok {
		sendAll(out, diskFigures, d)
	}
	elsewhere, asked := reachOf(s.Mount)
	if elsewhere {
		sendAll(out, pageFigures, s.Objects)
		for tier, pages := range map[string]int64{
			"memory": s.Objects.MemoryHits, "joined": s.Objects.Waits, "disk": s.Objects.DiskHits, "source": s.Objects.SourcePages,
		} {
			send(out, cachePages, prometheus.CounterValue, pages, tier)
		}
	}
	src, reached := s.Source.(patient.Stats)
	if asked {
		send(out, sourceUp, prometheus.GaugeValue, oneIf(reached && src.Breaker.State == "alive"))
	}
	if reached {
		sendAll(out, sourceFigures, src)
		for kind, n := range src.Failures {
			send(out, sourceFailures, prometheus.CounterValue, n, kind)
		}
		out <- histogram(sourceDuration, src.Latency)
	}
}

func describeAll[S any](out chan<- *prometheus.Desc, figures []figure[S]) {
	for _, f := range figures {
		out <- f.desc
	}
}

func sendAll[S any](out chan<- prometheus.Metric, figures []figure[S], s S) {
	for _, f := range figures {
		send(out, f.desc, f.kind, f.of(s))
	}
}

func send(out chan<- prometheus.Metric, desc *prometheus.Desc, kind prometheus.ValueType, value int64, labels ...string) {
	out <- prometheus.MustNewConstMetric(desc, kind, float64(value), labels...)
}

// histogram is one that was counted elsewhere.
func histogram(desc *prometheus.Desc, h patient.Histogram) prometheus.Metric {
	buckets := make(map[float64]uint64, len(h.Buckets))
	for _, b := range h.Buckets {
		buckets[b.UpTo] = uint64(b.Count)
	}
	return prometheus.MustNewConstHistogram(desc, uint64(h.Count), h.Sum, buckets)
}

func oneIf(is bool) int64 {
	if is {
		return 1
	}
	return 0
}

// labelOf is a name as a label, which must be UTF-8; directories need not be.
func labelOf(name string) string {
	if utf8.ValidString(name) {
		return name
	}
	return strconv.QuoteToASCII(name)
}
