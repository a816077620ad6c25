package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/tesserafs/tesserafs/synth"
	"github.com/tesserafs/tesserafs/synth/layout"
	"github.com/tesserafs/tesserafs/tilecache"
	"github.com/tesserafs/tesserafs/tilecache/catalogue"
	"github.com/tesserafs/tesserafs/tilecache/source/remote"
	"github.com/tesserafs/tesserafs/vfs/fusefs"
)

type mountFlags struct {
	sourceFlags
	daemon                       bool
	missing                      string
	memory                       byteSize
	innerChunk, scalesInnerChunk int
	chunkOrder                   string
	allowOther                   bool
	logFormat                    string
	logLevel                     string
	logFile                      string
	refresh                      time.Duration
	verify                       bool
	metrics                      string
}

func mountCommand() *cobra.Command {
	f := mountFlags{
		missing: "error", memory: 512 << 20, logFormat: "text",
		innerChunk: layout.DefaultInnerChunk, scalesInnerChunk: layout.DefaultScalesInnerChunk, chunkOrder: "pixel",
	}
	cmd := &cobra.Command{
		Use:   "mount SOURCE DIR",
		Short: "Show an archive as Zarr stores in a directory",
		Long: `Show the archive at SOURCE in the empty directory DIR, as

  DIR/<dataset>/tessera.zarr                        one Zarr store of all UTM zones and years
  DIR/<dataset>/zones/<year>/utm<ZZ>_<year>.zarr    one Zarr store a UTM zone and year
  DIR/<dataset>/tiles/<year>/grid_<lon>_<lat>.zarr  one a tile
  DIR/.tesserafs/status.json                        what is shown, was read, and failed

SOURCE is the top directory of an archive, or one dataset's: the published layout, a mirror's, or
the flat one that a download leaves, with or without a manifest. Nothing is written to it.

mount stays in the foreground until Ctrl-C, or until DIR is unmounted or its terminal is closed;
with --daemon it returns once the mount answers. A dead mount of tesserafs at DIR is cleared first.

SOURCE is read again on SIGHUP (kill -HUP), and with --refresh at intervals: tiles that came, went or
changed are then shown as they are. Files that are open go on as they were opened; reads of those whose
tiles have changed fail. Programs that have a store open should open it again: where tiles came or went
its shape and corner may be others, and they remember those of before. If SOURCE cannot be read, what was
read before is still shown; the log and 'tesserafs status --json' say why.

With --verify an object is read once more, in the background, when three quarters of it have been read
(the rest may have no data), and held against the checksum that the source (CRC64NVME, as S3 keeps it) or
an older manifest (SHA-256) gives. Where they differ, all reads of the tile fail from then on, and
'tesserafs status' lists the object; what was read before that was damaged.

` + exitHelp,
		Example: "  tesserafs mount /data/tessera /mnt/tessera\n  tesserafs mount /data/tessera /mnt/tessera --daemon",
		Args:    arguments("SOURCE", "DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runMount(cmd.Context(), cmd, f, args[0], args[1])
		},
	}
	fl := cmd.Flags()
	f.addSource(fl)
	f.addPages(fl)
	fl.BoolVar(&f.daemon, "daemon", f.daemon, "return once the mount answers, and go on in the background")
	fl.StringVar(&f.missing, "missing-tiles", f.missing, "a tile that is listed but cannot be read: error (reads fail) or fill (reads give fill values)")
	fl.Var(&f.memory, "memory", "limit of what is kept for speed, which is copies of what is read again and again, as root; 0 keeps none")
	fl.IntVar(&f.innerChunk, "inner-chunk", f.innerChunk, "side in pixels of the inner chunks of tessera.zarr, a power of two from 16 to 4096; 32 is geotessera's own")
	fl.IntVar(&f.scalesInnerChunk, "scales-inner-chunk", f.scalesInnerChunk, "the same for its scales")
	fl.StringVar(&f.chunkOrder, "chunk-order", f.chunkOrder, "order in the inner chunks of tessera.zarr's embeddings: pixel (as in tiles), or band (many times quicker to read with zarrs, slower at single points)")
	fl.BoolVar(&f.allowOther, "allow-other", f.allowOther, "let other users read, too")
	fl.DurationVar(&f.refresh, "refresh", f.refresh, "how often to read SOURCE again, such as 1h; 0 is only on SIGHUP")
	fl.StringVar(&f.metrics, "metrics", f.metrics, "serve metrics for Prometheus at this address and port, such as 127.0.0.1:9464; port 0 takes one that is free, :9464 is on loopback, 0.0.0.0:9464 is for everybody (default none)")
	fl.BoolVar(&f.verify, "verify", f.verify, "hold objects against their checksums once they have been read; reads of one that differs fail")
	fl.StringVar(&f.logFormat, "log-format", f.logFormat, "text or json")
	fl.StringVar(&f.logLevel, "log-level", f.logLevel, "debug, info, warn or error (default info in a file, warn elsewhere)")
	fl.StringVar(&f.logFile, "log-file", f.logFile, "file to append the log to (default with --daemon a file in the state directory, otherwise standard error)")
	return cmd
}

// check says what of the flags cannot be meant.
func (f mountFlags) check() error {
	if f.missing != "error" && f.missing != "fill" {
		return usageError("--missing-tiles is error or fill, not %q", f.missing)
	}
	if err := layout.CheckInnerChunk(f.innerChunk); err != nil {
		return usageError("--inner-chunk: %w", err)
	}
	if err := layout.CheckInnerChunk(f.scalesInnerChunk); err != nil {
		return usageError("--scales-inner-chunk: %w", err)
	}
	order, ok := chunkOrders[f.chunkOrder]
	if !ok {
		return usageError("--chunk-order is pixel or band, not %q", f.chunkOrder)
	}
	if err := order.Check(f.innerChunk); err != nil {
		return usageError("--chunk-order: %w", err)
	}
	if err := checkRefresh(f.refresh); err != nil {
		return err
	}
	if f.metrics != "" {
		if _, err := metricsAddress(f.metrics); err != nil {
			return err
		}
	}
	if f.logFormat != "text" && f.logFormat != "json" {
		return usageError("--log-format is text or json, not %q", f.logFormat)
	}
	if _, ok := logLevels[f.logLevel]; !ok && f.logLevel != "" {
		return usageError("--log-level is debug, info, warn or error, not %q", f.logLevel)
	}
	return nil
}

// catalogueGrows is how much garbage may come on top of a large catalogue.
const catalogueGrows = 96 << 20

// leastPages is what reading from elsewhere takes, whatever --memory says.
const leastPages = 16 << 20

// shares divides --memory between pages of what is elsewhere and hot copies: a directory's pages are the
// kernel's to keep. Pages get the larger part: who reads a zone chunk by chunk wants the rest of each tile's rows
// with the next chunk, which is 190 MB later.
func (f mountFlags) shares(a *archive) (pages, hot int64) {
	if a.reach == nil {
		return 0, int64(f.memory)
	}
	pages = max(leastPages, int64(f.memory)*3/4)
	return pages, max(0, int64(f.memory)-pages)
}

// chunkOrders are the values of --chunk-order.
var chunkOrders = map[string]layout.ChunkOrder{"pixel": layout.PixelOrder, "band": layout.BandOrder}

func (f mountFlags) policy() synth.MissingPolicy {
	if f.missing == "fill" {
		return synth.MissingFill
	}
	return synth.MissingError
}

func runMount(ctx context.Context, cmd *cobra.Command, f mountFlags, source, dir string) error {
	if err := f.check(); err != nil {
		return err
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	starter, err := openHandover()
	if err != nil {
		return err
	}
	if f.daemon && starter == nil {
		return startDaemon(ctx, cmd.OutOrStdout(), dir)
	}
	// A terminal or pipe that is gone must not take the mount with it.
	signal.Ignore(syscall.SIGPIPE)
	log, err := f.openLog(dir)
	if err != nil {
		return err
	}
	metrics, err := listenMetrics(ctx, f.metrics)
	if err != nil {
		return err
	}
	defer metrics.close()
	m, err := newMount(ctx, f, source, dir, metrics, log.Logger)
	if err != nil {
		return err
	}
	metrics.start(m.status, log.Logger)
	summary := m.summary(f.daemon, log.file)
	if starter != nil {
		err = log.leaveTerminal()
		if err == nil {
			err = starter.say(summary)
		}
	} else {
		_, err = fmt.Fprint(cmd.OutOrStdout(), summary)
	}
	if err != nil {
		_ = m.server.Unmount()
		return fmt.Errorf("cannot say that %s is mounted, so it is unmounted again: %w", dir, err)
	}
	if err := m.serve(ctx); err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "unmounted %s\n", dir)
	return nil
}

// mounted is an archive shown in a directory.
type mounted struct {
	dir     string // absolute
	archive *archive
	tree    atomic.Pointer[synth.Tree] // the one that is shown; the refresher replaces it
	stored  atomic.Int64               // bytes of what is shown, for df
	server  *fusefs.Server
	metrics *metricsServer
	log     *slog.Logger

	refresher *refresher
}

// newMount checks everything that can be checked at once, finds the tiles, and mounts.
func newMount(ctx context.Context, f mountFlags, source, dir string, metrics *metricsServer, log *slog.Logger) (*mounted, error) {
	if dead, err := clearDead(dir); err != nil {
		return nil, fmt.Errorf("cannot clear the dead mount on %s: %w", dir, err)
	} else if dead {
		log.Warn("cleared a dead mount", "dir", dir)
	}
	if err := checkMountPoint(dir); err != nil {
		return nil, err
	}
	if remote.Is(source) {
		// No directory of it can be hidden.
	} else if root, _, err := catalogue.Locate(source); err == nil { // otherwise openArchive says why
		if err := checkApart(root, dir); err != nil {
			return nil, err
		}
	}
	h := thisHost()
	if err := h.checkDevice(); err != nil {
		return nil, err
	}
	if err := h.checkHelper(); err != nil {
		return nil, err
	}
	if f.allowOther {
		if err := h.checkOthers(); err != nil {
			return nil, err
		}
	}
	a, err := openArchive(ctx, source, f.sourceFlags, log)
	if err != nil {
		return nil, err
	}
	// What is kept of a planet's tiles for weeks shall not be let double before the collector looks: the
	// garbage of requests comes to far less.
	if n := a.catalogue.Memory(); n > catalogueGrows {
		debug.SetGCPercent(int(100 * catalogueGrows / n))
	}
	m := &mounted{dir: dir, archive: a, metrics: metrics, log: log}
	if f.verify {
		sums := newChecksums(a, func() *catalogue.Catalogue {
			if t := m.tree.Load(); t != nil {
				return t.Catalogue()
			}
			return a.catalogue
		}, log)
		a.verify = &tilecache.Verification{Sums: sums.sums, Log: log}
	}
	pages, hot := f.shares(a)
	if err := a.openCache(pages); err != nil {
		_ = a.Close()
		return nil, err
	}
	var server atomic.Pointer[fusefs.Server] // set once it serves, which is before status.json can be read
	tree, err := synth.New(synth.Config{
		Catalogue: a.catalogue, Cache: a.objects, Missing: f.policy(), Log: log,
		InnerChunk: f.innerChunk, ScalesInnerChunk: f.scalesInnerChunk, ChunkOrder: chunkOrders[f.chunkOrder],
		Mount: func() synth.MountInfo {
			info := synth.MountInfo{
				Dir: dir, Source: a.source.String(), Version: buildVersion(), PID: os.Getpid(), Metrics: metrics.url(),
				Options: map[string]any{"missing_tiles": f.missing, "memory": int64(f.memory), "allow_other": f.allowOther,
					"inner_chunk": f.innerChunk, "scales_inner_chunk": f.scalesInnerChunk, "chunk_order": f.chunkOrder, "refresh": f.refresh.String(), "verify": f.verify},
			}
			if s := server.Load(); s != nil {
				info.Door = s.Stats()
			}
			a.addRemote(&info)
			return info
		},
	})
	if err != nil {
		_ = a.Close()
		return nil, err
	}
	m.tree.Store(tree)
	m.stored.Store(storedBytes(a.catalogue))
	m.refresher = newRefresher(m, f.refresh)
	m.server, err = fusefs.Mount(dir, tree.Root(), fusefs.Config{
		AllowOther: f.allowOther, FsName: a.source.String(), HotBytes: hot, Log: log,
		Size: m.stored.Load,
	})
	if err != nil {
		m.close()
		return nil, err
	}
	server.Store(m.server)
	log.Info("mounted", "source", a.source.String(), "dir", dir, "pid", os.Getpid())
	return m, nil
}

// status is that of what is shown now.
func (m *mounted) status() synth.Status { return m.tree.Load().Status() }

func (m *mounted) close() {
	m.refresher.close()
	if err := m.tree.Load().Close(); err != nil {
		m.log.Warn("closing the tree", "error", err)
	}
	if err := m.archive.Close(); err != nil {
		m.log.Warn("closing the archive", "error", err)
	}
}

// serve returns when nothing is shown any more, because somebody unmounted or because ctx ended.
func (m *mounted) serve(ctx context.Context) error {
	ctx, end := context.WithCancel(ctx)
	defer end()
	m.refresher.start(ctx, end)
	ended := make(chan error, 1)
	go func() { ended <- m.server.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			return err
		}
	case <-ctx.Done():
		if err := m.server.Unmount(); err != nil {
			if _, still := fusefs.Mounted(m.dir); still {
				return err
			}
			// Clients or reads that do not end, end with this process, so nothing waits for them.
			m.log.Warn("unmounting", "error", err)
			return nil
		}
	}
	m.log.Info("unmounted", "dir", m.dir)
	m.close()
	return nil
}

// summary says what is shown, where, and what to do with it.
func (m *mounted) summary(daemon bool, logFile *os.File) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s is shown at %s\n\n", m.archive.source, m.dir)
	table(&b, "  ", datasetTable(m.archive.datasets()))
	unmount := "tesserafs unmount " + shellWord(m.dir)
	if !daemon {
		unmount = "Ctrl-C, or " + unmount
	}
	facts := [][]string{
		{"stores:", filepath.Join(m.dir, "<dataset>", "tessera.zarr")},
		{"", filepath.Join(m.dir, "<dataset>", "zones", "<year>", "utm<ZZ>_<year>.zarr")},
		{"", filepath.Join(m.dir, "<dataset>", "tiles", "<year>", "grid_<lon>_<lat>.zarr")},
		{"open one:", `xr.open_zarr(` + strconv.Quote(filepath.Join(m.dir, m.archive.largestStore())) + `)`},
		{"unmount:", unmount},
	}
	if url := m.metrics.url(); url != "" {
		facts = append(facts, []string{"metrics:", url})
	}
	if logFile != nil {
		facts = append(facts, []string{"log:", logFile.Name()})
	}
	b.WriteByte('\n')
	table(&b, "  ", facts)
	return b.String()
}

// largestStore is the path of the store with the most tiles of the newest year of the first dataset.
func (a *archive) largestStore() string {
	ds := a.catalogue.Datasets[0]
	years := ds.Years()
	year := years[len(years)-1]
	most, zone := 0, 0
	for _, z := range ds.Zones(year) {
		if n := ds.Tiles(year, z).Len(); n > most {
			most, zone = n, z
		}
	}
	return fmt.Sprintf("%s/zones/%d/utm%02d_%d.zarr", ds.Name(), year, zone, year)
}
