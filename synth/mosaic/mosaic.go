// Package mosaic makes the pixels of a window out of the tiles under it: placement, overlap,
// validity, fill. It knows no Zarr and no files, only windows of a zone grid and objects of tiles.
//
// # One read
//
// A front door asks for n bytes at an offset of a chunk. [Mosaic.Embeddings] turns them into rows
// of the chunk's window, asks [grid.Mosaic] which tile owns which columns of which rows, loads
// those tiles (headers, shapes, validity; kept in an LRU, loaded once however many wait) and reads
// each run of columns straight into its place in the reply, where the pixels that are not data are
// zeroed. Nothing larger than the reply is ever assembled, except for [Mosaic.Bands], which answers in
// the order (band, row, column) and for that makes blocks whole.
//
// From a distant source ([tilecache.Cache.Distant]) the tiles of a read are loaded side by side, those that
// [Mosaic.Expect] names before their reader comes to them, and with embeddings the scales that Block.Scales
// says are wanted next are fetched, too: each would cost a round trip of its own.
//
// # Rules
//
//   - The last tile in catalogue order wins its whole rectangle, nodata included.
//   - A scale is data if it is finite and 0 < s < 1 (geotessera #355), and the landmask is not 0.
//     Elsewhere scales read NaN and embeddings 0.
//   - 3-D scales count by their maximum over the bands, NaN ignored.
//   - A tile without a landmask is all land, with one warning.
//   - An array larger than its footprint counts by its top left.
//   - A tile stays what it was when it was first loaded, or fails with [vfs.ErrChanged]; also when the
//     cache of objects was made to forget what it knew, for another Mosaic to look again.
//   - A tile that cannot be read fails every read that needs it: [vfs.ErrDamaged], or
//     [vfs.ErrChanged] when it is not what it was. Under [Fill] a damaged tile is served as if it
//     were not there, and is listed all the same. There is no third way.
//
// A tile is bad as a whole: scales whose embeddings are missing are not served either, for a model
// needs both.
package mosaic

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"

	"github.com/tesserafs/tesserafs/grid"
	"github.com/tesserafs/tesserafs/tilecache"
	"github.com/tesserafs/tesserafs/tilecache/source"
	"github.com/tesserafs/tesserafs/vfs"
)

// Policy says what a tile that cannot be read becomes.
type Policy int

const (
	Fail Policy = iota // reads that need the tile fail
	Fill               // its pixels are served as fill, and the tile is listed
)

// Tile says where a tile's objects lie and what the catalogue promises of them.
type Tile struct {
	Embeddings, Scales, Landmask string // names of objects
	EmbeddingsBytes, ScalesBytes int64  // sizes as catalogued; -1 where it does not say
	Height, Width                int    // pixels of the footprint
}

// Block is a window of a zone grid and the tiles that touch it, in catalogue order.
type Block struct {
	Window grid.Rect
	Tiles  []Tile
	Rects  []grid.Rect // the tiles' footprints on the lattice of Window

	// AsStored is the rule of consolidated stores: embeddings are the tile's own bytes whether
	// their scale counts or not, and scales are +Inf where no tile lies. Without it, the rule of
	// zone-year stores: embeddings are 0 wherever the scale is NaN, which it is where no tile lies.
	AsStored bool

	// Scales is where the scales lie that a reader of these embeddings is likely to want next: they are fetched
	// along with them. Empty: none.
	Scales grid.Rect

	// Bands is how many of a pixel's bands are shown, from the first on; 0 is all of them. Fewer
	// take AsStored.
	Bands int
}

func (b *Block) bands() int {
	if b.Bands == 0 {
		return grid.Bands
	}
	return b.Bands
}

// Config is what a Mosaic needs.
type Config struct {
	Objects *tilecache.Cache
	Policy  Policy
	Log     *slog.Logger
	// Tiles bounds how many loaded tiles are kept, 256 if 0. One takes up to 310 kB where it has
	// water and nodata throughout, less than a kilobyte where it has none.
	Tiles int
	// Stats counts what is read, for several Mosaics if they share it; nil: one of its own.
	Stats *Stats
}

// Mosaic reads pixels. Its methods may be called by many goroutines at once.
type Mosaic struct {
	// Journal lists the tiles that failed, and what was warned of.
	Journal *Journal
	// Stats count what was read.
	Stats *Stats

	objects *tilecache.Cache
	policy  Policy
	tiles   *lru.Cache[string, *loaded] // by the name of the embeddings
	seen    *lru.Cache[string, uint64]  // likewise: the state of tiles when they were first loaded
	loading singleflight.Group
	bands   *bandCache

	// running ends with Close; loads run under it, for they outlive the readers that wait.
	running context.Context
	stop    context.CancelFunc
	ahead   sync.WaitGroup // what goes on although no reader waits
	slots   chan struct{}  // bounds them
}

// Stats counts what was read.
type Stats struct {
	Reads       atomic.Int64 // requests for pixels
	Bytes       atomic.Int64 // of replies
	TilesLoaded atomic.Int64
}

// New makes a Mosaic over the objects of one archive. Close it before the objects.
func New(cfg Config) (*Mosaic, error) {
	if cfg.Tiles <= 0 {
		cfg.Tiles = 256
	}
	if cfg.Stats == nil {
		cfg.Stats = new(Stats)
	}
	tiles, err := lru.New[string, *loaded](cfg.Tiles)
	if err != nil {
		return nil, fmt.Errorf("mosaic: %w", err)
	}
	seen, err := lru.New[string, uint64](rememberedTiles)
	if err != nil {
		return nil, fmt.Errorf("mosaic: %w", err)
	}
	bands, err := newBandCache()
	if err != nil {
		return nil, fmt.Errorf("mosaic: %w", err)
	}
	m := &Mosaic{
		Journal: newJournal(cfg.Log),
		Stats:   cfg.Stats,
		objects: cfg.Objects,
		policy:  cfg.Policy,
		tiles:   tiles,
		seen:    seen,
		bands:   bands,
		slots:   make(chan struct{}, 2),
	}
	if cfg.Objects.Distant() { // Those are mostly waited for.
		m.slots = make(chan struct{}, distantSlots)
	}
	m.running, m.stop = context.WithCancel(context.Background())
	return m, nil
}

// Close ends the loads under way and waits for those in the background.
func (m *Mosaic) Close() {
	m.stop()
	m.ahead.Wait()
}

// Check says whether what a block was made of is still what it was: nil, or vfs.ErrChanged or
// vfs.ErrDamaged. Tiles that were never read are not looked at; one that failed is damaged still, so
// that nobody keeps the fill that stands for it.
func (m *Mosaic) Check(ctx context.Context, b *Block) error {
	for _, t := range b.Tiles {
		l, ok := m.tiles.Get(t.Embeddings)
		if !ok {
			if m.Journal.hasFailed(t.Embeddings, t.Scales, t.Landmask) {
				return fmt.Errorf("%w: %s", vfs.ErrDamaged, t.Embeddings)
			}
			continue
		}
		o, err := m.pin(ctx, t, l)
		if err == nil {
			err = o.check(ctx)
			o.release()
		}
		if err != nil {
			return m.Journal.failed(err)
		}
	}
	return nil
}

// tile returns a loaded tile, loading it if need be. Callers of one tile share the load; one whose
// context ends leaves, and the load goes on for the others.
func (m *Mosaic) tile(ctx context.Context, t Tile) (*loaded, error) {
	if l, ok := m.tiles.Get(t.Embeddings); ok {
		return l, nil
	}
	result := m.loading.DoChan(t.Embeddings, func() (v any, err error) {
		// A panic here would be raised again on a goroutine of singleflight's own, which
		// nobody can recover: it would end the process.
		defer recoverAs(t.Embeddings, &err)
		if l, ok := m.tiles.Get(t.Embeddings); ok {
			return l, nil
		}
		l, err := m.load(m.running, t)
		first, again := m.seen.Get(t.Embeddings)
		if again && (err == nil && first != l.state() || errors.Is(err, fs.ErrNotExist)) {
			err = objectError(t.Embeddings, fmt.Errorf("%w: the tile was another when it was loaded before", vfs.ErrChanged))
		}
		if err != nil {
			return nil, err
		}
		m.seen.Add(t.Embeddings, l.state())
		m.tiles.Add(t.Embeddings, l)
		m.Stats.TilesLoaded.Add(1)
		return l, nil
	})
	select {
	case r := <-result:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(*loaded), nil
	case <-ctx.Done():
		m.ahead.Go(func() { <-result }) // Close waits for the load
		return nil, ctx.Err()
	}
}

// distantSlots is how many tiles of a distant source are loaded at once without a reader who waits.
const distantSlots = 32

// Expect begins to load tiles that a reader is likely to come to soon, so that they are open when he does, if
// their source is distant; from a near one loading takes no longer then. Failures are told to reads that
// need the tile.
func (m *Mosaic) Expect(tiles []Tile) {
	if m.objects.Distant() {
		m.loadAhead(tiles)
	}
}

// loadAhead loads tiles in the background: a read of a chunk's first byte is the beginning of reading it
// whole, and what lies under its last rows can be got ready meanwhile.
func (m *Mosaic) loadAhead(tiles []Tile) {
	for _, t := range tiles {
		if m.tiles.Contains(t.Embeddings) {
			continue
		}
		select {
		case m.slots <- struct{}{}:
		default:
			return // enough under way; reads load the rest as they come to it
		}
		m.ahead.Add(1)
		go func() {
			defer m.ahead.Done()
			defer func() { <-m.slots }()
			// A failure is met again, and told, by the read that needs the tile.
			_, _ = m.tile(m.running, t)
		}()
	}
}

// loadTogether begins to load the tiles of a block that are about to be shown and are not loaded, but for one:
// a distant source takes its time for each. Whoever shows them waits for them, and is told what fails.
func (m *Mosaic) loadTogether(b *Block, shown []int) {
	first := true
	for _, i := range shown {
		t := b.Tiles[i]
		if m.tiles.Contains(t.Embeddings) {
			continue
		}
		if !first {
			m.ahead.Go(func() { _, _ = m.tile(m.running, t) })
		}
		first = false
	}
}

// view is a window as it can be read: who owns which columns, and the owners loaded and pinned.
type view struct {
	bands []grid.Band
	tiles []*loaded   // by index into the block's tiles; nil where a tile owns nothing
	pins  []pinned    // their objects, likewise
	rects []grid.Rect // what each really covers

	distant bool // their source is
}

// pinned are the open objects of a tile; landmask is nil where there is none.
type pinned struct{ embeddings, scales, landmask *tilecache.Object }

func (p pinned) each(f func(*tilecache.Object) error) error {
	for _, o := range []*tilecache.Object{p.embeddings, p.scales, p.landmask} {
		if o != nil {
			if err := f(o); err != nil {
				return objectError(o.Name(), err)
			}
		}
	}
	return nil
}

func (p pinned) release() {
	_ = p.each(func(o *tilecache.Object) error { o.Release(); return nil })
}

// check makes sure that the objects are still what they were. It comes after the bytes were found,
// so that bytes of a tile that changed meanwhile are not handed out.
func (p pinned) check(ctx context.Context) error {
	return p.each(func(o *tilecache.Object) error { return o.Check(ctx) })
}

func (v *view) release() {
	for _, p := range v.pins {
		p.release()
	}
}

func (v *view) check(ctx context.Context) error {
	for _, p := range v.pins {
		if err := p.check(ctx); err != nil {
			return err
		}
	}
	return nil
}

// view loads and pins what a window of a block shows. Under Fill, a tile that cannot be read
// leaves the picture, and what it covered shows again.
func (m *Mosaic) view(ctx context.Context, b *Block, window grid.Rect) (*view, error) {
	v := &view{
		tiles: make([]*loaded, len(b.Tiles)),
		pins:  make([]pinned, len(b.Tiles)),
		rects: b.Rects,

		distant: m.objects.Distant(),
	}
	for again := true; again; {
		again = false
		v.bands = grid.Mosaic(window, v.rects)
		shown := owners(v.bands, len(b.Tiles))
		m.loadTogether(b, shown)
		for _, i := range shown {
			if v.tiles[i] != nil {
				continue
			}
			covers, err := m.show(ctx, b.Tiles[i], b.Rects[i], v, i)
			if err != nil {
				v.release()
				return nil, err
			}
			if covers != v.rects[i] {
				if !again {
					v.rects = slices.Clone(v.rects)
				}
				v.rects[i] = covers
				again = true
			}
		}
	}
	return v, nil
}

// show loads and pins tile i of a view and says what it covers: its rectangle, or under Fill less.
func (m *Mosaic) show(ctx context.Context, t Tile, rect grid.Rect, v *view, i int) (grid.Rect, error) {
	l, err := m.tile(ctx, t)
	var p pinned
	if err == nil {
		p, err = m.pin(ctx, t, l)
	}
	if err == nil && l.fault != nil {
		err = l.fault
		if m.policy == Fill { // what is right of it is shown
			m.Journal.failed(err)
			err = nil
		}
	}
	if err != nil {
		p.release()
		err = m.Journal.failed(err)
		if m.fills(err) {
			return grid.Rect{}, nil
		}
		return rect, err
	}
	v.tiles[i], v.pins[i] = l, p
	rect.Height, rect.Width = min(rect.Height, l.height), min(rect.Width, l.width)
	return rect, nil
}

// fills says whether a tile that failed so is served as if it were not there.
func (m *Mosaic) fills(err error) bool {
	return m.policy == Fill && (errors.Is(err, vfs.ErrDamaged) || errors.Is(err, vfs.ErrTimeout))
}

// pin opens a loaded tile's objects, which must be those its validity was worked out from.
func (m *Mosaic) pin(ctx context.Context, t Tile, l *loaded) (p pinned, err error) {
	if p.embeddings, err = m.reopen(ctx, t.Embeddings, l.embeddings.info); err != nil {
		return p, err
	}
	if p.scales, err = m.reopen(ctx, t.Scales, l.scales.info); err == nil && l.landmask != nil {
		p.landmask, err = m.reopen(ctx, t.Landmask, *l.landmask)
	}
	if err != nil {
		p.release()
		return pinned{}, err
	}
	return p, nil
}

// reopen gets an object again that was seen before.
func (m *Mosaic) reopen(ctx context.Context, name string, seen source.Info) (*tilecache.Object, error) {
	o, err := m.objects.Open(ctx, name)
	if errors.Is(err, fs.ErrNotExist) && !errors.Is(err, vfs.ErrChanged) {
		err = fmt.Errorf("%w: %w", vfs.ErrChanged, err) // gone, whether or not the cache still knows that it was there
	}
	if err != nil {
		return nil, objectError(name, err)
	}
	if info := o.Info(); info.Size != seen.Size || !info.ModTime.Equal(seen.ModTime) || info.ETag != seen.ETag {
		o.Release()
		return nil, objectError(name, vfs.ErrChanged)
	}
	return o, nil
}

// owners lists the tiles that show in bands, ascending.
func owners(bands []grid.Band, n int) []int {
	shows := make([]bool, n)
	for _, band := range bands {
		for _, s := range band.Spans {
			if s.Tile >= 0 {
				shows[s.Tile] = true
			}
		}
	}
	out := make([]int, 0, n)
	for i, is := range shows {
		if is {
			out = append(out, i)
		}
	}
	return out
}
